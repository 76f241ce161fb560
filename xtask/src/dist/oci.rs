//! The image of a wasm module as an OCI layout, in the form that Istio and Envoy Gateway fetch: a manifest whose last layer is a
//! compressed tar archive with the file `plugin.wasm`.
//!
//! The bytes depend on the module and its name only, so that two builds have the same digests.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The name of the file that the fetchers look for.
const FILE: &str = "plugin.wasm";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What the image's metadata says about it.
pub(crate) struct About<'a> {
    pub(crate) title: &'a str,
    pub(crate) version: &'a str,
}

/// Writes the image of a module into a new folder.
///
/// # Errors
/// The folder can't be written.
pub(crate) fn write(folder: &Path, module: &[u8], about: &About<'_>) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    let blob = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let digest = sha256(bytes);
        std::fs::write(blobs.join(&digest), bytes)?;
        Ok(
            json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }),
        )
    };
    let archive = archive(module)?;
    let layer = blob(LAYER, &compress(&archive)?)?;
    let config = json!({
        // The image runs on no operating system, but the field is required. Engines refuse to load an image without a known one.
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&archive))] },
    });
    let config = blob(CONFIG, &serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.title": about.title,
            "org.opencontainers.image.version": about.version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    });
    let mut manifest = blob(MANIFEST, &serde_json::to_vec(&manifest)?)?;
    if let Some(fields) = manifest.as_object_mut() {
        let name = json!({ "org.opencontainers.image.ref.name": about.version });
        fields.insert("annotations".to_owned(), name);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    std::fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
    std::fs::write(folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

/// The SHA-256 of some bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive with the module as its only file.
fn archive(module: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(module.len())?);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, FILE, module)?;
    Ok(builder.into_inner()?)
}

/// Without a time and a file name, which gzip's header can have.
fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use super::{About, LAYER, sha256, write};
    use serde_json::Value;

    const ABOUT: About<'_> = About { title: "sandgate_ingress", version: "1.2.3" };

    /// The blob that a descriptor names, after the checks of a registry's client.
    fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = std::fs::read(folder.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(sha256(&bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    /// What the fetchers of Istio and Envoy Gateway do with an OCI image: they take the last layer, whose type must be `LAYER`,
    /// and the first file in it whose name ends with `plugin.wasm`.
    fn fetched(folder: &Path) -> Vec<u8> {
        let index: Value =
            serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
        let manifest: Value =
            serde_json::from_slice(&blob(folder, &index["manifests"][0])).unwrap();
        assert_eq!(manifest["mediaType"], index["manifests"][0]["mediaType"]);
        let layer = manifest["layers"].as_array().unwrap().last().unwrap();
        assert_eq!(layer["mediaType"], LAYER);
        let mut archive = Vec::new();
        flate2::read::GzDecoder::new(blob(folder, layer).as_slice())
            .read_to_end(&mut archive)
            .unwrap();
        let config: Value = serde_json::from_slice(&blob(folder, &manifest["config"])).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&archive)));
        let mut archive = tar::Archive::new(archive.as_slice());
        for file in archive.entries().unwrap() {
            let mut file = file.unwrap();
            if file.path().unwrap().ends_with("plugin.wasm") {
                let mut module = Vec::new();
                file.read_to_end(&mut module).unwrap();
                return module;
            }
        }
        panic!("there is no plugin.wasm");
    }

    #[test]
    fn the_fetchers_of_meshes_find_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let module: Vec<u8> = b"\0asm\x01\0\0\0".iter().copied().cycle().take(100_000).collect();
        write(folder.path(), &module, &ABOUT).unwrap();
        assert_eq!(fetched(folder.path()), module);
    }

    #[test]
    fn the_same_module_has_the_same_digest() {
        let index = || {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), b"\0asm\x01\0\0\0", &ABOUT).unwrap();
            std::fs::read(folder.path().join("index.json")).unwrap()
        };
        let first = index();
        // gzip and tar can hold the time, in seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(index(), first);
    }
}
