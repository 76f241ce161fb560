//! Who may call: the edge, on behalf of a member of the sandbox's project.
//!
//! The edge authenticates each request to port 9501 and removes the credential. It replaces
//! `X-Forwarded-Project-Id` by the project of the verified caller, and it forwards only requests of
//! members of the sandbox's project. The hosted platform passes its result to the management API in
//! header fields, too. Whoever reaches the port without the edge must guess the project's id, of
//! which 82 bits are random. A web page of another origin can't set the field at all.

use hyper::header::HeaderMap;
use sha2::{Digest, Sha256};

use super::refusal::Refusal;

const PROJECT: &str = "x-forwarded-project-id";

/// Refuses a request that does not name `project` exactly once.
pub(super) fn check(headers: &HeaderMap, project: &str) -> Result<(), Refusal> {
    let mut values = headers.get_all(PROJECT).iter();
    match (values.next(), values.next()) {
        // The time that a comparison of digests takes tells nothing about the project.
        (Some(value), None) if Sha256::digest(value.as_bytes()) == Sha256::digest(project) => {
            Ok(())
        }
        _ => Err(Refusal::forbidden(
            "commands and files are only for requests that the edge has authenticated for this \
             sandbox's project; send the request to the sandbox's URL instead of its address",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permitted(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROJECT, value.parse().unwrap());
        }
        check(&headers, "project_a").is_ok()
    }

    #[test]
    fn only_the_project_of_the_sandbox_is_permitted() {
        assert!(is_permitted(&["project_a"]));
        let others: [&[&str]; 7] = [
            &[],
            &[""],
            &["project_b"],
            &["project_a, project_a"],
            &["PROJECT_A"],
            &["project_a", "project_a"],
            &["project_b", "project_a"],
        ];
        for values in others {
            assert!(!is_permitted(values), "{values:?}");
        }
    }
}
