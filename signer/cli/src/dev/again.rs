//! A later start: it goes on with what the first one was given. An option that asks for something else is a mistake worth
//! a word, and the word says what to edit.

use super::{
    absolute, host_and_port,
    layout::{Layout, Settings},
};
use crate::{args::DevArgs, exit::Exit, failure::Failure};
use std::collections::BTreeSet;

/// An option that does not fit, and how to have it.
struct Misfit {
    what: String,
    edit: String,
}

/// Fails if an option was given that differs from what the instance has.
pub(super) fn check(args: &DevArgs, settings: &Settings, layout: &Layout) -> Result<(), Failure> {
    let misfits = misfits(args, settings)?;
    if misfits.is_empty() {
        return Ok(());
    }
    let lines = |line: fn(&Misfit) -> &str| misfits.iter().map(line).collect::<Vec<_>>().join("\n");
    let next = format!(
        "leave the option out, use another --dir, or edit in {}:\n{}",
        layout.dir().display(),
        lines(|m| &m.edit)
    );
    Err(Failure::new(Exit::Conflict, "this directory's instance was made with other options")
        .why(lines(|m| &m.what))
        .next(next))
}

fn misfits(args: &DevArgs, settings: &Settings) -> Result<Vec<Misfit>, Failure> {
    let mut found = Vec::new();
    let mut add = |option: &str, asked: &str, has: &str, edit: &str| {
        found.push(Misfit {
            what: format!("{option}: asked for {asked}, it has {has}"),
            edit: format!("for {option} {edit}"),
        });
    };
    if let Some(listen) = &args.listen {
        let (host, port) = host_and_port(listen)?;
        let had = settings.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        if host != settings.host {
            let edit = "nothing, since the TLS certificate names the host: use another --dir";
            add("--listen", host, &settings.host, edit);
        }
        if port != 0 && Some(port) != had {
            let edit = "listen in chanceryd.toml and address in dev.toml";
            add("--listen", &format!("port {port}"), &settings.address, edit);
        }
    }
    let registries: Vec<String> = args.registries.iter().map(ToString::to_string).collect();
    let lists = [
        (
            "--registry",
            &registries,
            &settings.registries,
            "[[registry]] in chanceryd.toml and registries in dev.toml",
        ),
        (
            "--repository",
            &args.repositories,
            &settings.repositories,
            "policy/repositories.toml, the keys' repositories in signing/charter.toml, and repositories in dev.toml",
        ),
        ("--keeper-env", &args.keeper_env, &settings.keeper_env, "keeper_env in dev.toml"),
    ];
    for (option, asked, has, edit) in lists {
        if !asked.is_empty() && asked.iter().collect::<BTreeSet<_>>() != has.iter().collect::<BTreeSet<_>>() {
            add(option, &asked.join(" "), &has.join(" "), edit);
        }
    }
    if let Some(module) = &args.pkcs11_module
        && absolute(module)? != absolute(&settings.module)?
    {
        let edit = "(or SOFTHSM2_MODULE) module in log/keeper.toml, signing/keeper.toml and dev.toml";
        add("--pkcs11-module", &module.display().to_string(), &settings.module.display().to_string(), edit);
    }
    if let Some(origin) = args.origin.as_ref().filter(|origin| origin.as_str() != settings.origin) {
        let edit = "nothing, since a log keeps its name for ever: use another --dir";
        add("--origin", origin.as_str(), &settings.origin, edit);
    }
    if let Some(log_key) = args.log_key.filter(|log_key| *log_key != settings.log_key) {
        let edit = "nothing, since a log keeps its key for ever: use another --dir";
        add("--log-key", log_key.as_str(), settings.log_key.as_str(), edit);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, LogKeyType};
    use clap::Parser;

    fn settings() -> Settings {
        Settings {
            schema: 1,
            host: "localhost".into(),
            address: "127.0.0.1:4443".into(),
            origin: "log.chancery.test".into(),
            log_key: LogKeyType::Ed25519,
            registries: vec!["localhost:5000=http".into(), "r.example=https".into()],
            repositories: vec!["localhost:5000/a/".into()],
            module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            keeper_env: vec!["A".into(), "B".into()],
        }
    }

    fn asked(options: &str) -> Vec<String> {
        // The module is named, since the environment of the tests may name another one.
        let module = if options.contains("--pkcs11-module") {
            ""
        } else {
            "--pkcs11-module /usr/lib/softhsm/libsofthsm2.so"
        };
        let line = format!("chancery dev {module} {options}");
        let Command::Dev(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not dev")
        };
        misfits(&args, &settings()).unwrap().into_iter().map(|m| format!("{} / {}", m.what, m.edit)).collect()
    }

    #[test]
    fn options_that_say_what_the_instance_has_are_fine() {
        for options in [
            "",
            "--listen localhost:4443",
            "--listen localhost:0",
            "--registry r.example=https --registry localhost:5000=http",
            "--repository localhost:5000/a/",
            "--keeper-env B --keeper-env A",
            "--pkcs11-module /usr/lib/softhsm/libsofthsm2.so",
            "--origin log.chancery.test",
            "--log-key ed25519",
        ] {
            assert_eq!(asked(options), Vec::<String>::new(), "{options}");
        }
    }

    #[test]
    fn every_option_that_differs_is_named_with_what_to_edit() {
        for (options, what, edit) in [
            (
                "--listen localhost:4444",
                "asked for port 4444, it has 127.0.0.1:4443",
                "listen in chanceryd.toml",
            ),
            ("--listen other:4443", "asked for other, it has localhost", "another --dir"),
            (
                "--registry r.example",
                "asked for r.example=https, it has localhost:5000=http r.example=https",
                "[[registry]]",
            ),
            ("--repository localhost:5000/b/", "localhost:5000/b/", "policy/repositories.toml"),
            ("--keeper-env A", "asked for A, it has A B", "keeper_env in dev.toml"),
            ("--pkcs11-module /lib/other.so", "/lib/other.so", "keeper.toml"),
            ("--origin log.example", "asked for log.example", "another --dir"),
            ("--log-key p256", "asked for p256, it has ed25519", "another --dir"),
        ] {
            let misfits = asked(options);
            assert_eq!(misfits.len(), 1, "{options}: {misfits:?}");
            assert!(misfits[0].contains(what) && misfits[0].contains(edit), "{options}: {misfits:?}");
        }
        assert_eq!(asked("--listen other:1 --origin log.example").len(), 3, "all of them at once");
    }
}
