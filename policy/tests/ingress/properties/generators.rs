//! Generators of inputs: hosts near the edges of the grammar, requests composed of dangerous parts, and valid requests.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sandgate_policy::gateway_api::{Identity, Sandbox, SandboxState};
use sandgate_policy::ingress::Resolved;

use crate::ingress::support::{ID, KEY, NOW, PAT, Req, World, id, in_flight, member, my_env};

/// Hosts near the edges of the grammar: most of them almost right.
pub(crate) fn hosts() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        Just(String::new()),
        select(vec!["api", "my-env", "8080-my-env", "9501-my-env", "4000-my-env", ID])
            .prop_map(String::from),
        "[0-9]{1,6}-[a-z0-9-]{0,8}",
        "[a-z0-9-]{1,23}",
        "[a-z0-9]{20,22}",
        "([0-9]{1,5}-)?[a-z][a-z0-9-]{54,62}",
        "[A-Za-z0-9.,:@%_\\[\\]-]{0,12}",
    ];
    let domain =
        select(vec![".local", ".sandbox.example.com", "local", ".example.com", ".LOCAL", ""]);
    let end = select(vec!["", ".", "..", ":80", ":", ".:9443", ":65536", ":x", ",x.local", "\0"]);
    (label, domain, end)
        .prop_map(|(label, domain, end)| format!("{label}{domain}{end}").into_bytes())
}

/// Values that mean something in one header or another, whole, joined and broken.
pub(crate) fn values() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![
            "Bearer ",
            "bearer",
            "Basic ",
            KEY,
            PAT,
            "tl_",
            "tl_apiKey_0123456789abcdef0123456789abcdef",
            "sk-app",
            "tl-session",
            "tl.session_token",
            "=",
            "; ",
            ";",
            ",",
            ", ",
            " ",
            "\"",
            "s",
            "org_1",
            "proj_1",
            "my-env",
            ID,
            "zzzzzzzzzzzzzzzzzzzzz",
            "null",
            "websocket",
            "https://app.example.com",
            "https://8080-my-env.local",
            "https://evil.com",
            "POST",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..3),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

pub(crate) fn names() -> impl Strategy<Value = String> {
    select(vec![
        "authorization",
        "x-sandgate-authorization",
        "cookie",
        "x-forwarded-organization-id",
        "x-forwarded-project-id",
        "x-tensorlake-sandbox-id",
        "x_tensorlake_sandbox_id",
        "origin",
        "sec-fetch-site",
        "upgrade",
        "access-control-request-method",
        "x-envoy-original-dst-host",
        "x_envoy-x",
        "x-api-key",
        "proxy-authorization",
        "x-tensorlake-route_hint",
        "content-type",
        ":authority",
        ":protocol",
        "x-sandgate_x",
        "x.sandgate.x",
        "x_forwarded.project-id",
        "x.forwarded.organization.id",
        "accept",
    ])
    .prop_map(String::from)
}

/// Requests of which many are good ones, with any headers added.
pub(crate) fn requests() -> impl Strategy<Value = Req> {
    let method = select(vec!["GET", "POST", "OPTIONS", "CONNECT", "DELETE"]);
    let host = prop_oneof![
        6 => select(vec!["8080-my-env.local", "my-env.local", "3000-my-env.local", "4000-my-env.local", "local"])
            .prop_map(|host| host.as_bytes().to_vec()),
        1 => hosts(),
    ];
    let path = select(vec![
        "/",
        "/?organizationId=org_1&projectId=proj_1",
        "/?projectId=%ff&organizationId",
    ]);
    let credential = prop_oneof![
        Just(Vec::new()),
        Just(vec![("authorization", format!("Bearer {KEY}"))]),
        Just(vec![("authorization", "Bearer sk-app".to_owned())]),
        Just(vec![("x-sandgate-authorization", format!("Bearer {PAT}"))]),
        Just(vec![("cookie", "a=1; tl-session=s".to_owned())]),
        Just(vec![
            ("origin", "https://app.example.com".to_owned()),
            ("access-control-request-method", "PUT".to_owned()),
        ]),
    ];
    let context = select(vec![
        vec![],
        vec![
            ("x-forwarded-organization-id", "org_1".to_owned()),
            ("x-forwarded-project-id", "proj_1".to_owned()),
        ],
    ]);
    let others = vec((names(), values()), 0..4);
    (method, host, path, credential, context, others).prop_map(
        |(method, host, path, credential, context, others)| {
            let mut request = Req::new(method, "x").path(path).authority(host);
            for (name, value) in credential.into_iter().chain(context) {
                request = request.and(name, value);
            }
            others.into_iter().fold(request, |request, (name, value)| request.and(&name, value))
        },
    )
}

pub(crate) fn sandboxes() -> impl Strategy<Value = Resolved<Sandbox>> {
    let state = prop_oneof![
        4 => Just(SandboxState::Running),
        1 => select(vec![
            SandboxState::Pending,
            SandboxState::Snapshotting,
            SandboxState::Suspending,
            SandboxState::Suspended,
            SandboxState::Terminated,
        ]),
    ];
    let address = option::weighted(
        0.9,
        select(vec![
            "10.1.0.2",
            "10.1.255.255",
            "fd00:1::7",
            "127.0.0.1",
            "10.2.0.1",
            "169.254.169.254",
        ]),
    );
    // 9501 too: a control plane that lists it must not make it public.
    let ports = select(vec![vec![], vec![8080], vec![3000, 8080], vec![8080, 9501], vec![9501]]);
    let project = select(vec!["proj_1", "proj_1", "proj_2"]);
    let named = option::weighted(0.8, Just("my-env".to_owned()));
    let known = (state, address, ports, project, named, any::<bool>(), any::<bool>()).prop_map(
        |(state, address, exposed_ports, project, name, public, auto_resume)| {
            Resolved::Found(Sandbox {
                name,
                project_id: id(project),
                state,
                address: address.map(|text| text.parse::<IpAddr>().expect("an address")),
                exposed_ports,
                allow_unauthenticated_access: public,
                auto_resume,
                ..my_env()
            })
        },
    );
    prop_oneof![6 => known, 1 => Just(Resolved::NotFound), 1 => Just(Resolved::Unavailable)]
}

pub(crate) fn callers() -> impl Strategy<Value = Resolved<Identity>> {
    let organization = select(vec!["org_1", "org_1", "org_1", "org_2"]);
    let projects = select(vec![vec!["proj_1"], vec!["proj_0", "proj_1"], vec!["proj_2"], vec![]]);
    let expires_at = select(vec![None, None, Some(NOW + 1), Some(NOW), Some(0)]);
    let known =
        (organization, projects, expires_at).prop_map(|(organization, projects, expires_at)| {
            Resolved::Found(Identity {
                organization_id: id(organization),
                project_ids: projects.into_iter().map(id).collect(),
                expires_at,
                ..member()
            })
        });
    prop_oneof![6 => known, 1 => Just(Resolved::NotFound), 1 => Just(Resolved::Unavailable)]
}

pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let in_flight = (0..3_usize, 0..3_usize, 0..3_usize)
        .prop_map(|(management, users, anonymous)| in_flight(management, users, anonymous));
    (sandboxes(), callers(), in_flight).prop_map(|(sandbox, caller, in_flight)| World {
        sandbox,
        caller,
        now: NOW,
        in_flight,
    })
}

pub(crate) fn set_cookies() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "tl-session",
        "tl.session_token",
        "=",
        "=",
        "1",
        ";",
        "; ",
        " ",
        "Domain",
        "domain=",
        ".local",
        "local",
        "8080-my-env.local",
        "sandbox.example.com",
        "\t",
        "Secure",
        "Path=/",
    ]);
    vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}
