//! Header maps, replies, resuming and resetting requests, and HTTP calls.

use std::rc::Rc;
use std::time::Duration;

use wasmtime::Linker;

use super::{Guest, Hostcall, general, hostcall};
use crate::abi::{MapType, Status, decode_pairs, encode_pairs, stream_type};
use crate::headers::Headers;
use crate::local_reply::LocalReply;
use crate::stream::Side;
use crate::vm::{Action, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    define_map_reads(linker)?;
    define_map_writes(linker)?;
    define_streams(linker)?;
    define_calls(linker)
}

/// The header map, if the filter may read it now.
fn readable<'a>(guest: &'a mut Guest<'_>, map: MapType) -> Option<&'a Headers> {
    let state = guest.state();
    let context = state.context();
    match map {
        MapType::CallResponseHeaders => {
            let root = state.root_of(context);
            state
                .call_response
                .as_ref()
                .filter(|(caller, _)| *caller == root)
                .map(|(_, response)| &response.headers)
        }
        MapType::RequestHeaders => {
            let stream = state.streams.get(&context)?;
            (stream.request_readable || stream.logging).then_some(&stream.request)
        }
        MapType::ResponseHeaders => {
            let stream = state.streams.get(&context)?;
            (stream.response_readable || stream.logging).then_some(&stream.response)
        }
        MapType::RequestTrailers | MapType::ResponseTrailers => {
            let (side, trailers) = state.streams.get(&context)?.trailers.as_ref()?;
            (Some(*side) == side_of(map)).then_some(trailers)
        }
        MapType::CallResponseTrailers => None,
    }
}

/// The side whose trailers are in a map.
fn side_of(map: MapType) -> Option<Side> {
    match map {
        MapType::RequestTrailers => Some(Side::Downstream),
        MapType::ResponseTrailers => Some(Side::Upstream),
        _ => None,
    }
}

/// The header map, if the filter may change it now.
fn writable<'a>(guest: &'a mut Guest<'_>, map: MapType) -> Hostcall<&'a mut Headers> {
    let stream = general::stream(guest).map_err(|_| Status::BadArgument)?;
    match map {
        MapType::RequestHeaders if stream.request_readable => Ok(&mut stream.request),
        MapType::ResponseHeaders if stream.response_readable => Ok(&mut stream.response),
        MapType::RequestTrailers | MapType::ResponseTrailers => match &mut stream.trailers {
            Some((side, trailers)) if Some(*side) == side_of(map) => Ok(trailers),
            _ => Err(Status::BadArgument.into()),
        },
        _ => Err(Status::BadArgument.into()),
    }
}

fn define_map_reads(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_header_map_pairs",
        |guest, map: u32, pointer_at: u32, size_at: u32| {
            // As in Envoy, a map that does not exist is returned as an empty map.
            let pairs =
                readable(guest, MapType::from_abi(map)?).map(encode_pairs).unwrap_or_default();
            guest.give(&pairs, pointer_at, size_at)
        }
    );
    hostcall!(
        linker,
        "proxy_get_header_map_value",
        |guest, map: u32, name: u32, name_size: u32, pointer_at: u32, size_at: u32| {
            let name = guest.read(name, name_size)?;
            let headers = readable(guest, MapType::from_abi(map)?).ok_or(Status::BadArgument)?;
            let value = headers.first(&name).ok_or(Status::NotFound)?.to_vec();
            guest.give(&value, pointer_at, size_at)
        }
    );
    Ok(())
}

fn define_map_writes(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_set_header_map_pairs", |guest, map: u32, pairs: u32, size: u32| {
        let pairs = decode_pairs(&guest.read(pairs, size)?);
        *writable(guest, MapType::from_abi(map)?)? = pairs;
        Ok(())
    });
    hostcall!(
        linker,
        "proxy_add_header_map_value",
        |guest, map: u32, name: u32, name_size: u32, value: u32, value_size: u32| {
            let (name, value) = (guest.read(name, name_size)?, guest.read(value, value_size)?);
            writable(guest, MapType::from_abi(map)?)?.add(&name, &value);
            Ok(())
        }
    );
    hostcall!(
        linker,
        "proxy_replace_header_map_value",
        |guest, map: u32, name: u32, name_size: u32, value: u32, value_size: u32| {
            let (name, value) = (guest.read(name, name_size)?, guest.read(value, value_size)?);
            writable(guest, MapType::from_abi(map)?)?.replace(&name, &value);
            Ok(())
        }
    );
    hostcall!(
        linker,
        "proxy_remove_header_map_value",
        |guest, map: u32, name: u32, name_size: u32| {
            let name = guest.read(name, name_size)?;
            writable(guest, MapType::from_abi(map)?)?.remove(&name);
            Ok(())
        }
    );
    Ok(())
}

fn define_streams(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_continue_stream", |guest, stream: u32| {
        let id = guest.state().context();
        // For a context without a request, Envoy does nothing and returns Ok.
        if stream == stream_type::DOWNSTREAM {
            guest.state().actions.push_back(Action::Proceed(id));
            return Ok(());
        }
        let Ok(state) = general::stream(guest) else { return Ok(()) };
        let action = match stream {
            stream_type::HTTP_REQUEST => Action::Resume(id),
            stream_type::HTTP_RESPONSE => Action::ResumeResponse,
            stream_type::UPSTREAM => return Err(Status::Unimplemented.into()),
            _ => return Err(Status::BadArgument.into()),
        };
        state.request_readable = false;
        guest.state().actions.push_back(action);
        Ok(())
    });
    hostcall!(linker, "proxy_close_stream", |guest, stream: u32| {
        let id = guest.state().context();
        if stream == stream_type::DOWNSTREAM {
            if guest.state().connections.contains_key(&id) {
                guest.state().actions.push_back(Action::Close(id));
            }
            return Ok(());
        }
        if general::stream(guest).is_err() {
            return Ok(());
        }
        if stream != stream_type::HTTP_REQUEST && stream != stream_type::HTTP_RESPONSE {
            return Err(Status::BadArgument.into());
        }
        guest.state().actions.push_back(Action::Reset(id));
        Ok(())
    });
    hostcall!(
        linker,
        "proxy_send_local_response",
        |guest,
         status: u32,
         _details: u32,
         _details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         grpc_status: i32| {
            let body = guest.read(body, body_size)?;
            let headers = decode_pairs(&guest.read(headers, headers_size)?);
            let id = guest.state().context();
            let shared = Rc::clone(&guest.state().shared);
            let Ok(stream) = general::stream(guest) else {
                shared.borrow_mut().fault("it sent a reply where there is no request");
                return Ok(());
            };
            if stream.replied {
                shared.borrow_mut().fault(format!("it sent a second reply to request {id}"));
                return Ok(());
            }
            stream.replied = true;
            let grpc_status = (grpc_status >= 0).then_some(grpc_status);
            let reply = LocalReply { status, headers, body, grpc_status };
            guest.state().stop_iteration = true;
            guest.state().actions.push_back(Action::Reply(id, reply));
            Ok(())
        }
    );
    Ok(())
}

fn define_calls(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_http_call", |guest,
                                          cluster: u32,
                                          cluster_size: u32,
                                          headers: u32,
                                          headers_size: u32,
                                          body: u32,
                                          body_size: u32,
                                          _trailers: u32,
                                          _trailers_size: u32,
                                          timeout: u32,
                                          token_at: u32| {
        let cluster = String::from_utf8_lossy(&guest.read(cluster, cluster_size)?).into_owned();
        let headers = decode_pairs(&guest.read(headers, headers_size)?);
        let body = guest.read(body, body_size)?;
        let timeout = Duration::from_millis(u64::from(timeout));
        let state = guest.state();
        // The call belongs to the root context, whichever context makes it.
        let owner = (state.id, state.root_of(state.context()));
        let token = state.shared.borrow_mut().dispatch(owner, cluster, headers, body, timeout)?;
        guest.write_u32(token_at, token)
    });
    Ok(())
}
