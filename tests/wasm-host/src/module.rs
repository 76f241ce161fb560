//! Finds the built filters, and compiles each of them once.
//!
//! `cargo nextest` runs each test in a process of its own, and a compilation takes longer than most tests. So wasmtime keeps
//! compiled modules below `target/`; it compiles a module again when the module or wasmtime changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use wasmtime::{Cache, CacheConfig, Config, Engine, Module};

/// The environment variable with the folder of the built filters. The default is the workspace's
/// `target/filters`.
const FILTERS_DIR: &str = "SANDGATE_FILTERS_DIR";

/// Loads the built filter with this name. Panics with instructions if it was not built, because a
/// test that can't run must not appear as passed.
pub(crate) fn built(name: &str) -> Module {
    static MODULES: OnceLock<Mutex<BTreeMap<String, Module>>> = OnceLock::new();
    let mut modules =
        MODULES.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(module) = modules.get(name) {
        return module.clone();
    }
    let path = filters_dir().join(format!("{name}.wasm"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("cannot read the filter {}: {error}; run `make wasm` first", path.display())
    });
    let module = compile(&bytes);
    modules.insert(name.to_owned(), module.clone());
    module
}

/// Compiles a module in the binary or text format.
pub(crate) fn compile(wasm: &[u8]) -> Module {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine =
        ENGINE.get_or_init(|| engine().unwrap_or_else(|error| panic!("wasmtime: {error:?}")));
    Module::new(engine, wasm).unwrap_or_else(|error| panic!("not a valid filter: {error:?}"))
}

fn engine() -> wasmtime::Result<Engine> {
    let mut cache = CacheConfig::new();
    cache.with_directory(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasmtime"));
    let mut config = Config::new();
    config.consume_fuel(true);
    config.cache(Some(Cache::new(cache)?));
    Engine::new(&config)
}

fn filters_dir() -> PathBuf {
    std::env::var_os(FILTERS_DIR).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/filters"),
        PathBuf::from,
    )
}
