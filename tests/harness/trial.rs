//! A test that not every machine can run, for test programs whose harness is `libtest-mimic`.

use libtest_mimic::{Arguments, Failed, Trial};

/// Creates a test. `obstacle` is the reason why it can't run on this machine, if there is one: the test is then ignored,
/// with the reason in brackets before its name. If it must run, it fails with this reason.
pub(crate) fn trial(
    arguments: &Arguments,
    name: &str,
    obstacle: Option<String>,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match obstacle {
        None => Trial::test(name, run),
        Some(reason) if must_run(arguments) => Trial::test(name, move || Err(reason.into())),
        Some(reason) => Trial::test(name, || Err("ignored on this machine".into()))
            .with_ignored_flag(true)
            .with_kind(reason),
    }
}

/// Whether a test that can't run fails. A runner that starts one process for each test has listed the test as one that
/// can run, and would count it as passed if it were ignored.
fn must_run(arguments: &Arguments) -> bool {
    std::env::var("CI").as_deref() == Ok("true")
        || (arguments.exact && !arguments.list && !arguments.ignored)
}
