// Checks manifests by the schemas of their kinds, and says for how many no registry has a schema. scripts/manifests calls it.
//
// usage: node check.mjs FILE...
//
// Exit status: 0 if all manifests with a schema fit it, 1 if one does not.

import { readFileSync } from "node:fs";
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import * as extensions from "@kubernetes-models/istio/extensions.istio.io/v1alpha1";
import * as istio from "@kubernetes-models/istio/networking.istio.io/v1beta1";
import * as patches from "@kubernetes-models/istio/networking.istio.io/v1alpha3";
import { parseAllDocuments } from "yaml";

const SCHEMAS = {
  "gateway.networking.k8s.io/v1": gateway,
  "extensions.istio.io/v1alpha1": extensions,
  "networking.istio.io/v1beta1": istio,
  "networking.istio.io/v1alpha3": patches,
};
// Kinds without a schema. Another one is an error, so that a wrong name can't pass as one of these.
const UNCHECKED = new Set([
  "extensions.istio.io/v1alpha1 TrafficExtension",
  "gateway.envoyproxy.io/v1alpha1 Backend",
  "gateway.envoyproxy.io/v1alpha1 EnvoyExtensionPolicy",
  "gateway.envoyproxy.io/v1alpha1 EnvoyPatchPolicy",
  "gateway.envoyproxy.io/v1alpha1 EnvoyProxy",
]);

let failed = 0;
const counts = { checked: 0, unchecked: 0 };
const files = process.argv.slice(2);
if (files.length === 0) throw new Error("no files");
for (const file of files) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    const manifest = document.toJS();
    const kind = `${manifest.apiVersion} ${manifest.kind}`;
    const Model = SCHEMAS[manifest.apiVersion]?.[manifest.kind];
    try {
      if (document.errors.length > 0) throw document.errors[0];
      if (Model) {
        new Model(manifest).validate();
        counts.checked += 1;
      } else if (UNCHECKED.has(kind)) {
        counts.unchecked += 1;
      } else {
        throw new Error("this kind is not known");
      }
    } catch (error) {
      failed += 1;
      console.error(`${file}: ${kind} ${manifest.metadata?.name}: ${error.message}`);
    }
  }
}
console.log(`${counts.unchecked} manifests are of a kind without a schema`);
console.log(`manifests: ${counts.checked} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
