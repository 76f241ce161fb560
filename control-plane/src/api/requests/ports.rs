//! The field `exposed_ports`.

use sandgate_policy::ingress::port::MANAGEMENT_PORT;
use serde::Deserialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::ApiError;
use crate::model::ExposedPorts;

/// The maximum number of entries, including duplicates. Each port is stored, listed, sent to every gateway, and
/// written to the audit log twice.
const MAX_PORTS: usize = 256;

/// The ports that requests can reach. The server sorts them and removes duplicates. The management port 9501 is
/// not among them: a request with a credential always reaches it.
#[derive(Deserialize, PartialEq, ToSchema)]
#[schema(as = ExposedPorts, max_items = 256)]
pub(super) struct RequestedPorts(Vec<RequestedPort>);

const _: () = assert!(MAX_PORTS == 256, "also in the schema of `RequestedPorts`");

/// Any whole number, so that [`ExposedPorts::parse`] can say what is wrong with it.
#[derive(Deserialize, PartialEq)]
struct RequestedPort(i64);

impl PartialSchema for RequestedPort {
    fn schema() -> RefOr<Schema> {
        let range = |minimum: u16, maximum: u16| {
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(minimum))
                .maximum(Some(maximum))
        };
        AnyOfBuilder::new()
            .item(range(1, MANAGEMENT_PORT - 1))
            .item(range(MANAGEMENT_PORT + 1, u16::MAX))
            .into()
    }
}

impl ToSchema for RequestedPort {
    fn name() -> std::borrow::Cow<'static, str> {
        "ExposedPort".into()
    }
}

impl TryFrom<RequestedPorts> for ExposedPorts {
    type Error = ApiError;

    fn try_from(RequestedPorts(ports): RequestedPorts) -> Result<Self, ApiError> {
        let count = ports.len();
        if count > MAX_PORTS {
            return Err(ApiError::invalid(format!(
                "`exposed_ports` has {count} entries; a sandbox can have at most {MAX_PORTS} \
                 exposed ports"
            )));
        }
        Self::parse(ports.into_iter().map(|RequestedPort(port)| i128::from(port)))
            .map_err(|error| ApiError::invalid(error.to_string()))
    }
}
