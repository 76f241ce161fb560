//! Requests through each way.

use anyhow::{Context as _, Result};
use http::StatusCode;
use sandgate_e2e::{Setup, Stack, run};
use sandgate_stack::Protocol;
use sandgate_stack::files::write_private;
use sandgate_stack::wait::until;
use serde_json::{Value, json};

use crate::envoy::{Envoy, versions};
use crate::values::{Values, file, yaml};
use crate::{envoy_gateway, istio};

/// A control plane and sandboxes, without an Envoy.
fn without_envoy() -> Setup {
    Setup { envoys: 0, ..Setup::default() }
}

/// The name of the listener, and the domain of the sandboxes.
struct Way {
    listener: &'static str,
    domain: &'static str,
}

const STATIC: Way = Way { listener: "ingress", domain: "sandbox.localhost" };
const ISTIO: Way = Way { listener: "0.0.0.0_443", domain: "sandbox.example.com" };
const ENVOY_GATEWAY: Way =
    Way { listener: "sandgate/sandboxes/https", domain: "sandbox.example.com" };

/// Makes the configuration of a way.
type Configuration = fn(&Values) -> Result<Value>;

/// All ways that have a file for users, and the configuration of each.
const WAYS: [(&Way, Configuration); 3] = [
    (&STATIC, |_| plain()),
    (&ISTIO, istio::configuration),
    (&ENVOY_GATEWAY, |_| envoy_gateway::configuration()),
];

/// The configuration of `static.yaml`.
fn plain() -> Result<Value> {
    let mut bootstrap = yaml("deploy/install/envoy/static.yaml")?;
    bootstrap["node"] = json!({ "id": "test", "cluster": "test" });
    Ok(bootstrap)
}

impl Way {
    /// Sends the requests of the page, and one that no way may forward.
    async fn serves(&self, envoy: &Envoy, stack: &Stack) -> Result<()> {
        let client = envoy.client(self.listener)?;
        let host = |port: u16| format!("{port}-my-env.{}", self.domain);
        let allowed = client.get(&host(8080), "/a%2Fb//c?d").bearer(stack.key()).send().await?;
        assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text());
        let seen = allowed.json()?;
        assert_eq!(seen["host"], host(8080));
        let headers = seen["headers"].to_string();
        assert!(!headers.contains(stack.key()) && !headers.contains("x-envoy-"), "{headers}");
        assert_eq!(client.get(&host(8080), "/").send().await?.denial()?, "401 UNAUTHENTICATED");
        let closed = client.get(&host(5000), "/").bearer(stack.key()).send().await?;
        assert_eq!(closed.denial()?, "403 PORT_NOT_EXPOSED");
        let wrong = client.get(&host(8080), "/").bearer("tl_wrong").send().await?;
        assert_eq!(wrong.denial()?, "401 INVALID_CREDENTIALS");
        // The demo's gRPC server answers over HTTP/2 only.
        let grpc = client.post(&host(50051), "/no.such.Service/Method").over(Protocol::H2c).grpc();
        let grpc = grpc.bearer(stack.key()).send().await?;
        assert_eq!(grpc.header("grpc-status"), Some("12"), "{} {}", grpc.status, grpc.text());
        self.forwards_no_address(envoy, stack).await
    }

    /// Asks for a sandbox by its address.
    async fn forwards_no_address(&self, envoy: &Envoy, stack: &Stack) -> Result<()> {
        let client = envoy.client(self.listener)?;
        let sandbox = stack.control_plane.gateway().get("gateway", "/gateway/v1/sandboxes/my-env");
        let sandbox = sandbox.bearer(sandgate_e2e::TOKEN).send().await?.ok()?;
        let address = sandbox["address"].as_str().context("no address")?;
        for host in [format!("{address}:8080"), format!("8080-my-env.{}", self.domain)] {
            let call = client
                .get(&host, "/health")
                .header("x-envoy-original-dst-host", format!("{address}:8080"));
            let answer = call.send().await?;
            assert!(!answer.status.is_success(), "{host}: {}", answer.text());
            assert!(!answer.text().contains("\"sandbox\""), "{host}: {}", answer.text());
        }
        Ok(())
    }
}

/// Runs a way in each version of Envoy.
fn in_each_version(way: &'static Way, configuration: Configuration) {
    run(without_envoy(), async |stack| {
        stack.my_env().await?;
        for program in versions()? {
            let values = Values::of(stack)?;
            let mut bootstrap = configuration(&values)?;
            values.put_into(&mut bootstrap);
            let envoy = Envoy::start(&program, values.folder.path(), &bootstrap).await?;
            let served = way.serves(&envoy, stack).await;
            served.with_context(|| format!("{}\n{}", program.display(), envoy.output()))?;
        }
        Ok(())
    });
}

#[test]
fn a_plain_envoy_serves_with_the_static_configuration() {
    in_each_version(&STATIC, |_| plain());
}

#[test]
fn an_istio_gateway_serves_with_the_extension_and_the_envoy_filter() {
    in_each_version(&ISTIO, istio::configuration);
}

#[test]
fn envoy_gateway_serves_with_the_extension_and_the_patches() {
    in_each_version(&ENVOY_GATEWAY, |_| envoy_gateway::configuration());
}

/// The resources of `static.yaml` from an ADS server; Envoy reads files in the place of one.
#[test]
fn the_resources_of_the_static_configuration_can_come_from_an_ads_server() {
    in_each_version(&STATIC, |values| {
        let mut bootstrap = plain()?;
        values.put_into(&mut bootstrap);
        let resources = bootstrap["static_resources"].take();
        let mut sources = json!({});
        for (source, list, kind) in [
            ("cds_config", "clusters", "envoy.config.cluster.v3.Cluster"),
            ("lds_config", "listeners", "envoy.config.listener.v3.Listener"),
        ] {
            let mut list = resources[list].clone();
            for resource in list.as_array_mut().context("no list")? {
                resource["@type"] = json!(format!("type.googleapis.com/{kind}"));
            }
            let path = values.folder.path().join(format!("{source}.json"));
            write_private(&path, &json!({ "resources": list }).to_string())?;
            sources[source] = json!({ "path_config_source": { "path": path } });
        }
        bootstrap["static_resources"] = json!({});
        bootstrap["dynamic_resources"] = sources;
        Ok(bootstrap)
    });
}

/// The commands of the page: the bootstrap of `sandgate bootstrap edge`, and the user's own configuration.
#[test]
fn an_envoy_with_a_configuration_of_its_own_gets_the_edge_by_ads() {
    let setup = Setup { by_xds: true, ..without_envoy() };
    run(setup, async |stack| {
        stack.my_env().await?;
        for program in versions()? {
            let folder = tempfile::tempdir()?;
            let bootstrap = folder.path().join("bootstrap.json");
            write_private(&bootstrap, &stack.control_plane.bootstrap("my-envoy")?)?;
            let yours = file("deploy/install/envoy/yours.yaml")?.replace("10080", "0");
            let bootstrap = bootstrap.display().to_string();
            let config = ["-c", &bootstrap, "--config-yaml", &yours];
            let envoy = Envoy::start_with(&program, folder.path(), &config).await?;
            let own = envoy.client("yours")?.get("yours", "/").send().await?;
            assert_eq!(own.text(), "your own service\n");
            let way = Way { listener: "edge", domain: "sandbox.localhost" };
            let patience = std::time::Duration::from_secs(30);
            until("the edge serves", patience, async || {
                let host = format!("8080-my-env.{}", way.domain);
                let answer = envoy.client(way.listener)?.get(&host, "/").bearer(stack.key());
                Ok((answer.send().await?.status == StatusCode::OK).then_some(()))
            })
            .await?;
            way.serves(&envoy, stack).await.with_context(|| envoy.output())?;
        }
        Ok(())
    });
}

/// Disables each filter that decides.
fn without_the_filter(bootstrap: &mut Value) -> usize {
    match bootstrap {
        Value::Array(list) => list.iter_mut().map(without_the_filter).sum(),
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
            let is_filter =
                fields.contains_key("typed_config") || fields.contains_key("config_discovery");
            let decides = name == "sandgate.ingress"
                || name.starts_with("extensions.istio.io/trafficextension/")
                || name.starts_with("envoy.filters.http.wasm/");
            if is_filter && decides {
                fields.insert("disabled".to_owned(), json!(true));
                return 1;
            }
            // Envoy Gateway enables it for the routes again.
            fields.remove("typed_per_filter_config");
            fields.values_mut().map(without_the_filter).sum()
        }
        _ => 0,
    }
}

/// Removes what makes a guard, by the text of `static.yaml`.
fn without_guards(bootstrap: &mut Value) -> Result<()> {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let filters = bootstrap.pointer_mut(&format!("{manager}/http_filters"));
    let filters = filters.and_then(Value::as_array_mut).context("no filters")?;
    filters.retain(|filter| filter["name"] != "sandgate.black_hole");
    let clusters = bootstrap.pointer_mut("/static_resources/clusters");
    for cluster in clusters.and_then(Value::as_array_mut).context("no clusters")? {
        cluster.as_object_mut().context("no cluster")?.remove("metadata");
    }
    Ok(())
}

#[test]
fn the_filter_reports_a_configuration_without_the_guards() {
    run(without_envoy(), async |stack| {
        stack.my_env().await?;
        for program in versions()? {
            for is_guarded in [true, false] {
                let values = Values::of(stack)?;
                let mut bootstrap = plain()?;
                values.put_into(&mut bootstrap);
                if !is_guarded {
                    without_guards(&mut bootstrap)?;
                }
                let envoy = Envoy::start(&program, values.folder.path(), &bootstrap).await?;
                STATIC.serves(&envoy, stack).await?;
                let missing = [
                    (
                        "missing_black_holes",
                        "no filter in front of this one has set the black hole",
                    ),
                    ("missing_address_checks", "has no address check"),
                ];
                for (metric, message) in missing {
                    let count = envoy.stat(&format!("sandgate_ingress_{metric}_total")).await?;
                    assert_eq!(count == 0, is_guarded, "{metric}: {count} {}", envoy.output());
                    assert_eq!(!envoy.output().contains(message), is_guarded, "{}", envoy.output());
                }
            }
        }
        Ok(())
    });
}

/// Gives the address checks of the clusters another network than the sandboxes have. Returns their number.
fn check_for_another_network(bootstrap: &mut Value) -> usize {
    match bootstrap {
        Value::Array(list) => list.iter_mut().map(check_for_another_network).sum(),
        Value::Object(fields) => match fields.get_mut("upstream_ip") {
            Some(range) => {
                range["address_prefix"] = json!("192.0.2.0");
                1
            }
            None => fields.values_mut().map(check_for_another_network).sum(),
        },
        _ => 0,
    }
}

#[test]
fn no_way_connects_to_an_address_outside_the_network_of_its_address_check() {
    run(without_envoy(), async |stack| {
        stack.my_env().await?;
        for program in versions()? {
            for (way, configuration) in WAYS {
                let values = Values::of(stack)?;
                let mut bootstrap = configuration(&values)?;
                values.put_into(&mut bootstrap);
                assert_eq!(check_for_another_network(&mut bootstrap), 2, "{}", way.listener);
                let envoy = Envoy::start(&program, values.folder.path(), &bootstrap).await?;
                let client = envoy.client(way.listener)?;
                let host = |port: u16| format!("{port}-my-env.{}", way.domain);
                let answer = client.get(&host(8080), "/").bearer(stack.key()).send().await?;
                assert!(!answer.status.is_success(), "{}", answer.text());
                let grpc = client.post(&host(50051), "/no.such.Service/Method");
                let grpc = grpc.over(Protocol::H2c).grpc().bearer(stack.key()).send().await?;
                // 12 is the sandbox's own answer.
                assert_ne!(grpc.header("grpc-status"), Some("12"), "{}", grpc.text());
            }
        }
        Ok(())
    });
}

#[test]
fn without_the_filter_no_way_forwards_anything() {
    run(without_envoy(), async |stack| {
        stack.public_env().await?;
        let [program, _] = versions()?;
        for (way, configuration) in WAYS {
            let values = Values::of(stack)?;
            let mut bootstrap = configuration(&values)?;
            values.put_into(&mut bootstrap);
            assert_eq!(without_the_filter(&mut bootstrap), 1, "{}", way.listener);
            let envoy = Envoy::start(&program, values.folder.path(), &bootstrap).await?;
            way.forwards_no_address(&envoy, stack).await?;
        }
        Ok(())
    });
}
