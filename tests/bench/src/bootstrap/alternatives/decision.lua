-- The decision of the ingress filter as a script, with everything in memory: the sandbox of the host, the principal of the
-- key, and the headers that the app gets. It has no lookups, no WebSocket rules and no header hygiene.
local sandboxes = {}
for i = 0, 9999 do
  local n = i + 256
  sandboxes["s" .. i] = {
    address = "127.96." .. math.floor(n / 256) .. "." .. (n % 256),
    is_public = i % 2 == 0,
    project = "project_x",
  }
end
local keys = { ["API_KEY"] = { principal = "key_0123456789abcdef", project = "project_x" } }

function envoy_on_request(handle)
  local headers = handle:headers()
  local port, name = string.match(headers:get(":authority"), "^(%d+)%-([%w%-]+)%.DOMAIN")
  local sandbox = sandboxes[name]
  if sandbox == nil then
    handle:respond({ [":status"] = "404" }, "no such sandbox")
    return
  end
  if not sandbox.is_public then
    local token = string.match(headers:get("authorization") or "", "^Bearer (.+)$")
    local key = token and keys[token]
    if key == nil or key.project ~= sandbox.project then
      handle:respond({ [":status"] = "401" }, "no access")
      return
    end
    headers:remove("authorization")
    headers:replace("x-forwarded-project-id", key.project)
  end
  local state = handle:streamInfo():filterState()
  state:set("envoy.upstream.dynamic_port", "envoy.upstream.dynamic_port", port)
  state:set("envoy.upstream.dynamic_host", "envoy.upstream.dynamic_host", sandbox.address)
end
