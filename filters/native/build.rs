//! Links the unwinder into the module: Envoy's images have no libgcc_s.so.1, without which the module would not load.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--whole-archive,-l:libgcc_eh.a,--no-whole-archive");
}
