//! The identifiers: which texts they accept, and their form in JSON.

use sandgate_policy::ids::{ID_MAX, OrganizationId, PrincipalId, ProjectId, SandboxId, SandboxRef};
use test_case::test_case;

#[test_case("proj_1"; "the form in which the control plane issues ids")]
#[test_case("Proj-1.b"; "capitals, a hyphen, and a dot")]
#[test_case(&"a".repeat(ID_MAX); "the longest id")]
fn an_organization_or_a_project_has_a_token_as_its_id(text: &str) {
    assert_eq!(OrganizationId::parse(text).expect("an id"), text);
    assert_eq!(ProjectId::parse(text).expect("an id"), text);
}

#[test_case(""; "an empty text")]
#[test_case("a b"; "a space")]
#[test_case("a/b"; "a slash")]
#[test_case("a\r\nb"; "a line end")]
#[test_case("a,b"; "a comma, which separates header values")]
#[test_case("ä"; "a letter outside ASCII")]
#[test_case(&"a".repeat(ID_MAX + 1); "a text that is too long")]
fn other_texts_are_refused_and_not_truncated(text: &str) {
    assert!(OrganizationId::parse(text).is_err());
    assert!(ProjectId::parse(text).is_err());
    let json = serde_json::Value::from(text);
    assert!(serde_json::from_value::<ProjectId>(json).is_err(), "JSON has the same check");
}

#[test_case("key_1", true; "the id of an API key")]
#[test_case("alice@example.com", true; "a mail address")]
#[test_case("", false; "an empty text")]
#[test_case("a b", false; "a space")]
#[test_case("a\0", false; "a control character")]
fn the_id_of_a_principal_is_visible_ascii(text: &str, is_valid: bool) {
    assert_eq!(PrincipalId::parse(text).is_ok(), is_valid);
}

#[test_case("a1b2c3d4e5f6g7h8i9j0k", true; "21 letters and digits")]
#[test_case("a1b2c3d4e5f6g7h8i9j0", false; "20 characters")]
#[test_case("A1b2c3d4e5f6g7h8i9j0k", false; "a capital")]
#[test_case("a1b2c3d4e5-6g7h8i9j0k", false; "a hyphen")]
fn the_id_of_a_sandbox_has_21_letters_and_digits(text: &str, is_valid: bool) {
    assert_eq!(SandboxId::parse(text).is_ok(), is_valid);
    assert_eq!(matches!(SandboxRef::parse(text), Some(SandboxRef::Id(_))), is_valid);
}

#[test]
fn an_id_is_a_string_in_json() {
    let id = ProjectId::parse("proj_1").expect("an id");
    assert_eq!(serde_json::to_string(&id).expect("JSON"), r#""proj_1""#);
    assert_eq!(serde_json::from_str::<ProjectId>(r#""proj_1""#).expect("an id"), id);
}

#[test]
fn an_error_says_which_id_was_expected() {
    let error = ProjectId::parse("a b").expect_err("a space").to_string();
    assert_eq!(
        error,
        "is not the id of a project: expected 1 to 128 letters, digits, `_`, `-` and `.`"
    );
}
