//! Training steps of whole networks, with a framework's own normalization layers and with ours, in
//! turns.
//!
//! `cargo run --release -- [burn] [candle] [resnet18] [convnext] [transformer] [unet] [--json]`

mod alternate;
mod arguments;
mod burn_networks;
mod calls;
mod candle_networks;
mod inputs;
mod network;
mod report;
mod training;

use std::process::ExitCode;

use alternate::alternate;
use arguments::{Arguments, USAGE};
use network::{Framework, Network};
use report::Row;
use training::{Error, check, norms, step};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Arguments::parse(&words).map_err(Error::from).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut rows = vec![];
    for &framework in &arguments.frameworks {
        for &network in &arguments.networks {
            let row = measure(framework, network);
            rows.push(
                row.map_err(|error| format!("{} {}: {error}", framework.name(), network.name()))?,
            );
        }
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
}

fn measure(framework: Framework, network: Network) -> Result<Row, Error> {
    let mut trainings = match framework {
        Framework::Burn => burn_networks::trainings(network),
        Framework::Candle => candle_networks::trainings(network)?,
    };
    let [theirs, ours] = trainings.each_mut().map(Box::as_mut);
    let losses = check(theirs, ours)?;
    let steps = alternate([theirs, ours], step)?;
    let norms = alternate([theirs, ours], norms)?;
    Ok(Row { framework, network, losses, steps, norms })
}
