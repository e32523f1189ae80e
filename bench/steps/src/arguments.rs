//! The command line.

use crate::network::{Framework, Network};

pub const USAGE: &str = "\
steps [burn] [candle] [resnet18] [convnext] [transformer] [unet] [--json]

Times training steps with a framework's own normalization layers and with Cellnorm's, in turns.
Without names: both frameworks, all networks. RAYON_NUM_THREADS sets the threads.";

pub struct Arguments {
    pub frameworks: Vec<Framework>,
    pub networks: Vec<Network>,
    pub json: bool,
}

impl Arguments {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut arguments = Self { frameworks: vec![], networks: vec![], json: false };
        for word in words {
            let framework = Framework::ALL.into_iter().find(|framework| framework.name() == word);
            let network = Network::ALL.into_iter().find(|network| network.name() == word);
            match (framework, network) {
                (Some(framework), _) => arguments.frameworks.push(framework),
                (_, Some(network)) => arguments.networks.push(network),
                _ if word == "--json" => arguments.json = true,
                _ => return Err(format!("there is no {word}\n\n{USAGE}")),
            }
        }
        if arguments.frameworks.is_empty() {
            arguments.frameworks = Framework::ALL.into();
        }
        if arguments.networks.is_empty() {
            arguments.networks = Network::ALL.into();
        }
        Ok(arguments)
    }
}
