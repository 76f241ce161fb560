"""xDS with grpcio and protobuf, Google's implementations: a second client of the server, beside Envoy."""

import json
import queue
import subprocess
import unittest
from pathlib import Path

import grpc
import world
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from stack import PROGRAMS
from tell import ROOT

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
URL = "type.googleapis.com/"
CLUSTER = "envoy.config.cluster.v3.Cluster"
LISTENER = "envoy.config.listener.v3.Listener"
ROUTE = "envoy.config.route.v3.RouteConfiguration"
EXTENSION = "envoy.config.core.v3.TypedExtensionConfig"
SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"
BUCKET = "envoy.type.v3.TokenBucket"
SECONDS = 20


def messages():
    """A function that returns the class of a message, made from Envoy's own descriptions."""
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString((ROOT / "xds/descriptors.bin").read_bytes()).file:
        pool.Add(file)
    return lambda name: GetMessageClass(pool.FindMessageTypeByName(name))


class Stream:
    """A stream of a node. It accepts what it receives unless `rejects` contains a type."""

    def __init__(self, test, node, token, has=None):
        self.message = test.message
        self.node, self.has, self.rejects = node, has or {}, set()
        self.resources = {}
        self.requests = queue.SimpleQueue()
        channel = grpc.insecure_channel(f"127.0.0.1:{test.here.stack.xds_port}",
                                        [("grpc.max_receive_message_length", -1)])
        request = self.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        response = self.message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        call = channel.stream_stream(METHOD, request.SerializeToString, response.FromString)
        self.call = call(iter(self.requests.get, None), metadata=[("authorization", f"Bearer {token}")], timeout=SECONDS)
        test.addCleanup(channel.close)
        test.addCleanup(self.requests.put, None)

    def send(self, kind, **fields):
        request = self.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")(type_url=URL + kind, **fields)
        request.node.id = self.node
        self.requests.put(request)

    def subscribe(self, kind, *names):
        self.send(kind, resource_names_subscribe=names, initial_resource_versions=self.has.get(kind, {}))

    def receive(self):
        """The next response, which is answered."""
        response = next(self.call)
        kind = response.type_url.removeprefix(URL)
        answer = {"response_nonce": response.nonce}
        if kind in self.rejects:
            answer["error_detail"] = {"code": 3, "message": "rejected by a test"}
        else:
            of_kind = self.resources.setdefault(kind, {})
            of_kind.update((resource.name, resource) for resource in response.resources)
            for name in response.removed_resources:
                of_kind.pop(name, None)
        self.send(kind, **answer)
        return response

    def decoded(self, kind, name):
        resource = self.resources[kind][name]
        message = self.message(kind)()
        assert resource.resource.Unpack(message), resource.resource.type_url
        return message

    def versions(self):
        return {kind: {name: it.version for name, it in of_kind.items()} for kind, of_kind in self.resources.items()}


class XdsTest(unittest.TestCase):
    """xDS by grpcio"""

    modes = ("local",)

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.message = staticmethod(messages())

    def token(self, node):
        """The token in the bootstrap of a node."""
        stack = self.here.stack
        bootstrap = self.run_sandgate("bootstrap", "edge", "--node", node, "--xds-state", stack.xds_state, "--xds-key-file",
                                      stack.xds_key_file, "--xds-host", "127.0.0.1", "--xds-port", str(stack.xds_port))
        [secret] = bootstrap["static_resources"]["secrets"]
        return secret["generic_secret"]["secret"]["inline_string"]

    def run_sandgate(self, *arguments):
        done = subprocess.run([PROGRAMS / "sandgate", *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
        return json.loads(done.stdout)

    def node(self, name):
        """A node in the list of `sandgate xds nodes`."""
        url = f"http://127.0.0.1:{self.here.ports['gateway']}"
        nodes = self.run_sandgate("xds", "nodes", "--json", "--gateway-url", url,
                                  "--gateway-token-file", str(self.here.gateway_token_file))["nodes"]
        return next(node for node in nodes if node["node"] == name)

    def with_everything(self, node, has=None):
        """A stream of a node that has received all resources."""
        stream = Stream(self, node, self.token(node), has)
        for kind in (CLUSTER, LISTENER):
            stream.subscribe(kind)
            stream.receive()
        if has:
            return stream
        names = {EXTENSION: set(), SECRET: {"gateway_token"}, ROUTE: {"edge"}, BUCKET: {"access_log"}}
        for name in stream.resources[LISTENER]:
            for chain in stream.decoded(LISTENER, name).filter_chains:
                manager = self.message("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")()
                self.assertTrue(chain.filters[0].typed_config.Unpack(manager))
                names[EXTENSION] |= {it.name for it in manager.http_filters if it.HasField("config_discovery")}
                names[ROUTE].add(manager.rds.route_config_name)
                if chain.HasField("transport_socket"):
                    names[SECRET].add("edge_certificate")
        for kind, of_kind in names.items():
            stream.subscribe(kind, *sorted(of_kind))
            stream.receive()
        return stream

    def test_receives_every_kind_of_resource_and_can_read_it(self):
        stream = self.with_everything("client-1")
        self.assertEqual({"edge", "edge_tls"}, set(stream.resources[LISTENER]))
        self.assertIn("gateway_api", stream.resources[CLUSTER])
        for kind, of_kind in stream.resources.items():
            self.assertTrue(of_kind, kind)
            for name, resource in of_kind.items():
                self.assertTrue(resource.version)
                decoded = stream.decoded(kind, name)
                if kind != BUCKET:
                    self.assertEqual(name, decoded.name)
        private = stream.decoded(SECRET, "edge_certificate").tls_certificate.private_key.inline_string
        self.assertEqual((Path(self.here.certificate_folder) / "tls.key").read_text(), private)
        world.eventually(lambda: self.node("client-1")["pending"] == 0, "the server knows that the client has everything")

    def test_reconnects_with_what_it_has_and_gets_nothing_again(self):
        before = self.with_everything("client-2")
        versions = before.versions()
        before.call.cancel()
        stream = self.with_everything("client-2", versions)
        for kind in (EXTENSION, SECRET, ROUTE, BUCKET):
            stream.subscribe(kind, *versions[kind])
        # This name does not exist, so it has an answer.
        stream.send(ROUTE, resource_names_subscribe=["no-such-route"])
        self.assertEqual(["no-such-route"], list(stream.receive().removed_resources))
        self.assertFalse(any(stream.resources.values()), stream.resources)

    def test_rejects_a_resource_which_the_list_of_nodes_shows_until_the_next_version(self):
        file = Path(self.here.stack.xds_state)
        original = file.read_text()

        def change(seconds):
            state = json.loads(original)
            state["edge"]["stream_idle_timeout_seconds"] = seconds
            new = file.with_suffix(".new")
            new.write_text(json.dumps(state))
            new.rename(file)

        self.addCleanup(change, 3600)
        stream = self.with_everything("client-3")
        stream.rejects.add(ROUTE)
        change(3601)
        rejected = stream.receive()
        self.assertEqual(URL + ROUTE, rejected.type_url)
        world.eventually(lambda: self.node("client-3")["rejected"] == {"route": {"edge": "rejected by a test"}},
                         "the rejection is listed")
        stream.rejects.clear()
        change(3602)
        accepted = stream.receive()
        self.assertNotEqual(rejected.resources[0].version, accepted.resources[0].version)
        world.eventually(lambda: self.node("client-3")["rejected"] == {} and self.node("client-3")["pending"] == 0,
                         "the rejection is over")

    def test_has_no_stream_without_a_token_and_none_of_another_node(self):
        for token, claims, expected in (
            ("gateway-token-0123456789", "client-4", grpc.StatusCode.UNAUTHENTICATED),
            (self.token("client-4"), "edge-1", grpc.StatusCode.PERMISSION_DENIED),
        ):
            stream = Stream(self, claims, token)
            stream.subscribe(CLUSTER)
            with self.assertRaises(grpc.RpcError) as caught:
                stream.receive()
            self.assertEqual(expected, caught.exception.code())
