//! The sandbox's Envoy: its files, its process, and the generation that it applies.

pub(crate) mod child;
pub(crate) mod files;
pub(crate) mod probe;

pub(crate) use child::{Child, Program};
pub(crate) use files::{Files, Filter};
