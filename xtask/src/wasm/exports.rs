//! Removes the exports of a filter that it does not use.
//!
//! Envoy calls each callback that a module exports, and the SDK exports all of them. A callback that does nothing still costs a
//! call into the VM: `proxy_on_upstream_data`, for example, for each chunk that a server sends.

use anyhow::{Context as _, Result, ensure};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};

/// What Envoy needs of every module.
const REQUIRED: [&str; 6] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "malloc",
    "proxy_on_context_create",
    "proxy_on_delete",
];

/// Returns the module with the required exports and `callbacks` as its only exports.
///
/// # Errors
/// The module is malformed, or one of the exports is missing.
pub(super) fn keep(module: &[u8], callbacks: &[&str]) -> Result<Vec<u8>> {
    let wanted = || REQUIRED.iter().chain(callbacks).copied();
    let mut reduced = Module::new();
    let mut kept = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::ExportSection(exports) = payload {
            let mut section = ExportSection::new();
            for export in exports {
                let export = export?;
                if wanted().any(|name| name == export.name) {
                    section.export(export.name, kind(export.kind)?, export.index);
                    kept.push(export.name);
                }
            }
            reduced.section(&section);
        } else if let Some((id, range)) = payload.as_section() {
            let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
            let data = module.get(range).context("a section ends after the module")?;
            reduced.section(&RawSection { id, data });
        }
    }
    for name in wanted() {
        ensure!(kept.contains(&name), "the module does not export `{name}`");
    }
    Ok(reduced.finish())
}

fn kind(kind: ExternalKind) -> Result<ExportKind> {
    Ok(match kind {
        ExternalKind::Func => ExportKind::Func,
        ExternalKind::Memory => ExportKind::Memory,
        other => anyhow::bail!("an export that Envoy needs is a {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with these functions as its exports, and a memory.
    fn module(functions: &[&str]) -> Vec<u8> {
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut declared = wasm_encoder::FunctionSection::new();
        declared.function(0);
        let mut memories = wasm_encoder::MemorySection::new();
        memories.memory(wasm_encoder::MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        for name in functions {
            exports.export(name, ExportKind::Func, 0);
        }
        let mut body = wasm_encoder::Function::new([]);
        body.instruction(&wasm_encoder::Instruction::End);
        let mut code = wasm_encoder::CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        module.section(&types).section(&declared).section(&memories);
        module.section(&exports).section(&code);
        module.finish()
    }

    fn exported(module: &[u8]) -> Vec<&str> {
        let exports = Parser::new(0).parse_all(module).find_map(|payload| match payload.unwrap() {
            Payload::ExportSection(exports) => Some(exports),
            _ => None,
        });
        exports.unwrap().into_iter().map(|export| export.unwrap().name).collect()
    }

    #[test]
    fn a_callback_that_a_filter_does_not_use_is_not_exported() {
        let functions = &REQUIRED[1..];
        let full = module(&[functions, &["proxy_on_tick", "proxy_on_log"]].concat());
        let reduced = keep(&full, &["proxy_on_tick"]).unwrap();
        assert_eq!(exported(&reduced), [&REQUIRED[..], &["proxy_on_tick"]].concat());
        // All else is the same.
        assert_eq!(keep(&full, &["proxy_on_tick", "proxy_on_log"]).unwrap(), full);
    }

    #[test]
    fn a_module_without_a_callback_that_its_filter_uses_is_refused() {
        let error = keep(&module(&REQUIRED[1..]), &["proxy_on_tick"]).unwrap_err();
        assert_eq!(error.to_string(), "the module does not export `proxy_on_tick`");
    }
}
