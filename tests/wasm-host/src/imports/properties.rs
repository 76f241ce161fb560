//! Properties and filter state.

use std::collections::BTreeMap;
use std::rc::Rc;

use wasmtime::Linker;

use super::{Guest, Hostcall, hostcall};
use crate::abi::Status;
use crate::connection::Attributes;
use crate::filter_state::{self, DYNAMIC_HOST, FilterState, ORIGINAL_DST};
use crate::vm::VmState;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_property",
        |guest, path: u32, size: u32, pointer_at: u32, size_at: u32| {
            let path = guest.read(path, size)?;
            let value = property(guest, &path)?;
            guest.give(&value, pointer_at, size_at)
        }
    );
    hostcall!(
        linker,
        "proxy_set_property",
        |guest, path: u32, path_size: u32, value: u32, value_size: u32| {
            let path = guest.read(path, path_size)?;
            let value = guest.read(value, value_size)?;
            subject(guest)?.properties.insert(path, value);
            Ok(())
        }
    );
    hostcall!(
        linker,
        "proxy_call_foreign_function",
        |guest,
         name: u32,
         name_size: u32,
         arguments: u32,
         arguments_size: u32,
         _results_at: u32,
         _results_size_at: u32| {
            let name = guest.read(name, name_size)?;
            let arguments = guest.read(arguments, arguments_size)?;
            match name.as_slice() {
                b"set_envoy_filter_state" => set_filter_state(guest, &arguments),
                // This host has no route cache.
                b"clear_route_cache" => Ok(()),
                _ => Err(Status::NotFound.into()),
            }
        }
    );
    Ok(())
}

fn set_filter_state(guest: &mut Guest<'_>, arguments: &[u8]) -> Hostcall {
    let (key, new) = filter_state::parse(arguments)?;
    let shared = Rc::clone(&guest.state().shared);
    let subject = subject(guest)?;
    if subject.filter_state.get(&key).is_some_and(|old| old.span != new.span) {
        shared.borrow_mut().fault(format!("it set the filter state {key} with another life span"));
    }
    subject.filter_state.insert(key, new);
    Ok(())
}

/// The common state of a request and a connection.
struct Subject<'a> {
    filter_state: &'a mut BTreeMap<String, FilterState>,
    properties: &'a mut BTreeMap<Vec<u8>, Vec<u8>>,
    attributes: &'a Attributes,
}

/// The request or connection that a host call refers to. A root context has none.
fn subject<'a>(guest: &'a mut Guest<'_>) -> Hostcall<Subject<'a>> {
    let state = guest.state();
    let context = state.context();
    if let Some(connection) = state.connections.get_mut(&context) {
        return Ok(Subject {
            filter_state: &mut connection.filter_state,
            properties: &mut connection.properties,
            attributes: &connection.attributes,
        });
    }
    let stream = state.streams.get_mut(&context).ok_or(Status::NotFound)?;
    Ok(Subject {
        filter_state: &mut stream.filter_state,
        properties: &mut stream.properties,
        attributes: &stream.attributes,
    })
}

/// A property of the effective context: its plugin's root id, a value that the filter set, or an
/// attribute that Envoy provides.
fn property(guest: &mut Guest<'_>, path: &[u8]) -> Hostcall<Vec<u8>> {
    if path == b"plugin_root_id" {
        let state = guest.state();
        let root = state.root_of(state.context());
        let root = state.roots.get(&root).ok_or(Status::NotFound)?;
        return Ok(root.root_id.clone().into_bytes());
    }
    let subject = subject(guest)?;
    if let Some(value) = subject.properties.get(path) {
        return Ok(value.clone());
    }
    // The segments of a path are separated by NULs.
    let name = String::from_utf8_lossy(path).replace('\0', ".");
    subject
        .attributes
        .get(&name)
        .cloned()
        .or_else(|| of_configuration(&name))
        .ok_or_else(|| Status::NotFound.into())
}

/// What the configuration of an edge provides, unless a test sets another attribute: the black hole, and the address check that
/// the metadata of a cluster declares.
fn of_configuration(name: &str) -> Option<Vec<u8>> {
    let value = match name.strip_prefix("filter_state.") {
        Some(DYNAMIC_HOST | ORIGINAL_DST) => "255.255.255.255:9",
        None if name == "xds.cluster_metadata.filter_metadata.sandgate.address_check" => {
            "127.64.0.0/16"
        }
        _ => return None,
    };
    Some(value.as_bytes().to_vec())
}
