//! Manual pages and completions, made from the definitions of the commands and settings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap_complete::Shell;
use clap_mangen::Man;
use dsync_config::{Kind, SETTINGS};

/// Version of the programs.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A generated file: its path below `packaging/`, and what is in it.
type Page = (PathBuf, Vec<u8>);

/// The `manual` command.
pub(crate) fn run() -> Result<()> {
    for (path, bytes) in pages()? {
        let path = packaging().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join("packaging")
}

fn pages() -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    let client = dsync_client::command();
    let server = dsync_server::command();
    let mut with_commands = client.clone();
    with_commands.build();
    // "dsync-sync": man's way to name the page of a command inside a program.
    for (names, title) in [
        (&["sync"][..], "dsync-sync"),
        (&["backup"], "dsync-backup"),
        (&["check"], "dsync-check"),
        (&["config"], "dsync-config"),
        (&["index", "dump"], "dsync-index-dump"),
    ] {
        let mut command = &with_commands;
        for name in names {
            command = command
                .find_subcommand(name)
                .with_context(|| format!("no command {name}"))?;
        }
        let command = command.clone().name(title).version(VERSION);
        pages.push(page(command, false)?);
    }
    let mut listening = server.clone();
    listening.build();
    let listen = listening.find_subcommand("listen");
    let listen = listen.context("no command listen")?.clone();
    let listen = listen.name("dsync-server-listen").version(VERSION);
    pages.push(page(listen, false)?);
    pages.push(page(client.clone(), true)?);
    pages.push(page(server.clone(), true)?);
    for command in [client, server] {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            pages.push(completion(&command, shell));
        }
    }
    Ok(pages)
}

fn page(command: clap::Command, with_settings: bool) -> Result<Page> {
    let name = command.get_name().to_owned();
    // The date of the build would make every build different.
    let man = Man::new(command).date("").manual("dsync");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if name == "dsync" {
        man.render_subcommands_section(&mut page)?;
    }
    if with_settings {
        page.extend_from_slice(settings().as_bytes());
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok((Path::new("man").join(format!("{name}.1")), page))
}

/// The table of settings as a section of a manual page.
fn settings() -> String {
    let mut section = String::from(
        ".SH SETTINGS\nGiven with \\fB\\-o\\fR NAME=VALUE, or in a TOML file \
         (\\fB\\-c\\fR; otherwise /etc/dsync.toml if it exists). Without a file they are those \
         of the Dovecot on this host, as doveconf tells them; \\fB\\-c\\fR /dev/null has none. \
         Namespaces are \
         [[namespace]] tables with name, prefix, separator, inbox, hidden, list, location, \
         alias_for and special_use.\n",
    );
    for setting in SETTINGS {
        let values = match setting.kind {
            Kind::Text | Kind::Secret | Kind::Userdb => "text".to_owned(),
            Kind::Boolean => "yes or no".to_owned(),
            Kind::Number(_) => "number".to_owned(),
            Kind::Size => "size".to_owned(),
            Kind::Time => "time".to_owned(),
            Kind::Character => "one character".to_owned(),
            Kind::Choice(choices) => choices.join(", "),
            Kind::Words => "words".to_owned(),
            Kind::Flags(words) => words.join(", "),
        };
        let default = match setting.default {
            "" => "empty".to_owned(),
            default => default.to_owned(),
        };
        section.push_str(&format!(
            ".TP\n\\fB{}\\fR ({}; default: {})\n{}\n",
            roff(setting.name),
            roff(&values),
            roff(&default),
            roff(setting.doc)
        ));
    }
    section
}

/// Text that roff leaves as it is.
fn roff(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}

fn completion(command: &clap::Command, shell: Shell) -> Page {
    let name = command.get_name().to_owned();
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), &name, &mut bytes);
    let path = match shell {
        Shell::Fish => format!("completions/{name}.fish"),
        Shell::Zsh => format!("completions/_{name}"),
        _ => format!("completions/{name}.bash"),
    };
    (PathBuf::from(path), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_in_packaging_are_up_to_date() {
        for (path, bytes) in pages().unwrap() {
            let path = packaging().join(path);
            let committed = fs::read(&path).unwrap_or_default();
            assert!(
                committed == bytes,
                "{} is out of date: run `cargo xtask manual`",
                path.display()
            );
        }
    }
}
