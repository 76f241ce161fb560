//! The gRPC service `sandgate.demo.v1.Echo`: messages, client and server, generated from
//! `proto/sandgate/demo/v1/echo.proto`.

pub use generated::*;

/// The compiled proto file, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/sandgate_demo_descriptor.bin"));

#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "the generator writes them"
)]
mod generated {
    tonic::include_proto!("sandgate.demo.v1");
}
