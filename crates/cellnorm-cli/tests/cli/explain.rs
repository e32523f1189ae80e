//! `cellnorm explain` and `cellnorm semantics`: the numbers, the drawings and the refusals.

use std::fs;

use assert_cmd::Command;
use serde_json::Value;

use crate::common::plain;

fn cellnorm(words: &str) -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("cellnorm");
    command.args(words.split_whitespace()).env("COLUMNS", "120").env_remove("NO_COLOR");
    command
}

fn text(words: &str) -> String {
    let output = cellnorm(words).output().unwrap();
    assert!(output.status.success(), "{}", plain(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(words: &str) -> Value {
    serde_json::from_str(&text(&format!("{words} --json"))).unwrap()
}

fn refuses(words: &str, parts: &[&str]) {
    let output = cellnorm(words).output().unwrap();
    let message = plain(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}: {message}");
    assert!(output.stdout.is_empty());
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// The row of the table with this name, with what follows on further lines.
fn row(text: &str, name: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with(name));
    let first = lines.next().unwrap_or_else(|| panic!("no row {name:?} in {text}"));
    let more = lines.take_while(|line| line.starts_with("     "));
    let words: Vec<&str> =
        std::iter::once(first).chain(more).flat_map(str::split_whitespace).collect();
    words.join(" ")
}

#[test]
fn the_table_holds_the_right_numbers() {
    let group = text("explain --shape 8,32,28,28 --norm group --groups 4");
    assert_eq!(
        row(&group, "statistics"),
        "statistics 32 = 8 N × 4 blocks of 8 C: mean and variance each"
    );
    assert_eq!(row(&group, "values in each"), "values in each 6,272 = 8 C × 28 H × 28 W");
    assert!(row(&group, "noise").contains("mean ±1.3 % of σ = 1/√n, variance ±1.8 % = √(2/(n−1))"));
    assert_eq!(row(&group, "parameters"), "parameters gamma [32], beta [32]: 64 values");
    assert!(row(&group, "kept").ends_with("nothing: the same in training and inference"));
    assert!(
        row(&group, "forward").starts_with("forward, f32 1.61 MB = read x + write y, 803 KB each")
    );
    assert!(
        row(&group, "backward").starts_with("backward, f32 2.41 MB = read x and dy + write dx")
    );
    assert!(!group.contains("warning"));

    let batch = text("explain --shape 4,112,112,64 --norm batch --layout nhwc");
    assert_eq!(row(&batch, "statistics"), "statistics 64 C: mean and variance each");
    assert_eq!(
        row(&batch, "kept"),
        "kept for inference running_mean [64], running_var [64]: 128 values"
    );
    assert!(
        row(&batch, "forward").contains("38.5 MB = read x + read x again + write y, 12.8 MB each")
    );

    let window = text("explain --shape 2,9,4,4 --norm local-response --size 4");
    assert_eq!(
        row(&window, "values in each"),
        "values in each 2 + 1 + 1 C; 2 at an end of the axis"
    );
}

#[test]
fn every_normalization_is_explained() {
    // the number of statistics, their values, and the number of parameters
    type Case = (&'static str, &'static [(u64, u64)], u64);
    let cases: [Case; 23] = [
        ("8,6,4,4 --norm batch", &[(6, 128)], 12),
        ("8,6,4,4 --norm ghost --virtual-batch 4", &[(12, 64)], 12),
        ("10,6,4,4 --norm ghost --virtual-batch 4", &[(18, 64)], 12),
        ("8,6,20 --layout nct --norm step", &[(120, 8)], 12),
        ("8,6,4,4 --norm renorm", &[(6, 128)], 12),
        ("8,6,4,4 --norm axes-batch", &[(6, 128)], 12),
        ("8,6,4,4 --norm axes-batch --axes 1,3", &[(24, 32)], 48),
        ("8,6,4,4 --norm lp --axes 1,2,3", &[(8, 96)], 0),
        ("64,32,3,3 --norm weight-standardization", &[(64, 288)], 64 * 288 + 64),
        ("8,6,4,4 --norm layer", &[(8, 96)], 12),
        ("8,6,4,4 --norm layer --axes 1,2,3", &[(8, 96)], 192),
        ("8,6,4,4 --norm instance", &[(48, 16)], 12),
        ("8,6,4,4 --norm group --groups 2", &[(16, 48)], 12),
        ("8,6,4,4 --norm rms --axes -1", &[(192, 4)], 4),
        ("8,6,4,4 --norm rms-scaling", &[(8, 96)], 6),
        ("8,6,4,4 --norm rms-scaling --axes -1", &[(192, 4)], 4),
        ("8,6,4,4 --norm batch-instance", &[(6, 128), (48, 16)], 18),
        ("8,6,4,4 --norm switchable", &[(48, 16), (8, 96), (6, 128)], 18),
        ("64,32,3,3 --norm weight", &[(64, 288)], 64 * 288 + 64),
        ("8,6,4,4 --norm graph", &[(48, 16)], 18),
        ("8,6,4,4 --norm local-response", &[(768, 5)], 0),
        ("8,6,4,4 --norm filter-response", &[(48, 16)], 12),
        ("8,6,4,4 --norm mean-variance", &[(6, 128)], 0),
    ];
    for (flags, statistics, parameters) in cases {
        let json = json(&format!("explain --shape {flags}"));
        let found: Vec<(u64, u64)> = json["statistics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["count"].as_u64().unwrap(), s["values"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, statistics, "{flags}");
        let found: u64 = json["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["count"].as_u64().unwrap())
            .sum();
        assert_eq!(found, parameters, "{flags}");
        assert!(text(&format!("explain --shape {flags}")).contains("██"));
    }
}

#[test]
fn the_figure_marks_as_many_values_as_share() {
    // small enough for all values to be drawn, two letters each
    for (flags, marked) in [
        ("2,4,3 --norm batch", 6),
        ("2,4,3 --norm layer", 3),
        ("2,4,3 --norm layer --axes 1,2", 12),
        ("2,4,3 --norm instance", 3),
        ("2,4,3 --norm group --groups 2", 6),
        ("2,4,3 --norm local-response --size 3", 3),
        ("4,4,3 --norm ghost --virtual-batch 2", 6),
        ("2,3,4 --layout ntc --norm layer --axes 1", 3),
        ("5,4 --norm batch", 5),
        ("2,4,2,2 --norm rms --axes 1,3", 8),
    ] {
        let text = text(&format!("explain --shape {flags}"));
        let figure = text.split("\n██ ").next().unwrap();
        assert_eq!(figure.matches('█').count(), 2 * marked, "{flags}\n{text}");
    }
}

#[test]
fn the_figure_fits_the_terminal() {
    for flags in [
        "64,2048,7,7 --norm batch",
        "64,512,7,7 --norm group",
        "64,32,7 --norm ghost --virtual-batch 4",
    ] {
        for columns in [72, 100, 200] {
            let output = cellnorm(&format!("explain --shape {flags}"))
                .env("COLUMNS", columns.to_string())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns, "{flags}: {widest} in {columns}\n{text}");
        }
    }
}

#[test]
fn without_a_terminal_there_is_no_colour() {
    assert!(!text("explain --shape 2,4,3 --norm batch").contains('\x1b'));
}

#[test]
fn borders_of_groups_are_kept_where_channels_are_left_out() {
    let text = text("explain --shape 2,64,7,7 --norm group --groups 4");
    let channels = text.lines().find(|line| line.trim_start().starts_with("c ")).unwrap();
    let first: Vec<&str> = channels.split_whitespace().skip(1).take(12).collect();
    assert_eq!(first, ["0", "⋯", "15", "16", "⋯", "31", "32", "⋯", "47", "48", "⋯", "63"]);
    let row = text.lines().find(|line| line.trim_start().starts_with("h,w")).unwrap();
    let blocks: Vec<&str> = row.split('│').collect();
    assert!(blocks[0].contains("█⋯") && !blocks[0].contains('░'));
    assert!(blocks[1..].iter().all(|block| !block.contains('█')));
}

/// The drawing of a shape, after checking that its elements are nested and its attributes quoted.
fn svg(flags: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figure.svg");
    text(&format!("explain --shape {flags} --svg {}", path.display()));
    let svg = fs::read_to_string(path).unwrap();
    let mut open: Vec<&str> = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, words) = piece.split_once('>').expect("each tag ends");
        assert!(tag.matches('"').count() % 2 == 0, "{tag}");
        assert!(
            !words.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains('&'),
            "{words}"
        );
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name)),
            (None, true) => {}
            (None, false) => open.push(tag.split_whitespace().next().unwrap()),
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    svg
}

#[test]
fn the_drawing_marks_what_one_sees_of_the_set() {
    // cells in front (sample 0), on top (position 0) and at the side (the last channel)
    for (flags, front, top, side) in [
        ("2,4,3 --norm batch", 3, 2, 0),
        ("2,4,3 --norm layer --axes 1,2 --layout nct", 12, 4, 3),
        ("2,4,3 --norm instance", 3, 1, 0),
        ("2,4,3 --norm group --groups 2", 6, 2, 0),
        ("4,4,3 --norm ghost --virtual-batch 2", 3, 2, 0),
        ("2,4,3 --norm local-response --size 3", 3, 3, 1),
        ("3,1,2 --norm batch", 2, 3, 6),
        ("5,4 --norm batch", 5, 0, 0),
        ("6,4 --norm weight", 4, 0, 0),
    ] {
        let svg = svg(flags);
        let count = |face: &str| svg.matches(&format!("class=\"cell {face} on\"")).count();
        assert_eq!((count("front"), count("top"), count("side")), (front, top, side), "{flags}");
    }
    let whole = svg("2,4,3 --norm batch");
    assert_eq!(whole.matches("<polygon").count(), 4 * 3 + 2 * 4 + 2 * 3);
    assert!(!whole.contains("class=\"skip"));
    assert!(whole.contains("6 values of one mean and variance; 4 such sets in all"));
    assert_eq!(svg("4,6,3,3 --norm switchable").matches("<g class=").count(), 3);
}

#[test]
fn warnings_say_what_to_do() {
    let text = text("explain --shape 8,28,28,32 --norm layer --layout nhwc --axes 1");
    assert_eq!(
        row(&text, "warning"),
        "warning axis 1 of NHWC is the image height, not the channels"
    );
    assert_eq!(row(&text, "what to do"), "what to do for the channels name axis 3, or -1");
    let codes = |flags: &str| -> Vec<String> {
        let json = json(&format!("explain --shape {flags}"));
        json["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(codes("100,32,32 --norm layer"), ["missing-channel-axis"]);
    assert_eq!(codes("8,2 --norm layer"), ["two-values"]);
    assert_eq!(codes("8,64,1,1 --norm instance"), ["one-value"]);
    assert_eq!(codes("2,64,3,3 --norm batch"), ["few-values"]);
    assert_eq!(codes("8,32,28,28 --norm layer --axes 1,2,3"), ["parameter-per-element"]);
}

/// Layout, number of statistics, values in each, γ, and the codes of the warnings.
fn summary(value: &Value) -> (String, [u64; 3], Vec<String>) {
    let statistic = &value["statistics"][0];
    let numbers = [&statistic["count"], &statistic["values"], &value["parameters"][0]["count"]];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let codes = value["warnings"].as_array().unwrap().iter().map(|one| text(&one["code"]));
    (text(&value["layout"]), numbers.map(|number| number.as_u64().unwrap()), codes.collect())
}

/// Both readings of "layer" (and of RMS), the transformer's first for three axes.
#[test]
fn layer_has_two_readings() {
    let readings = |flags: &str| {
        let value = json(&format!("explain --shape {flags}"));
        let others = value["other_readings"].as_array().unwrap().iter().map(summary);
        [summary(&value)].into_iter().chain(others).collect::<Vec<_>>()
    };
    let of = |layout: &str, numbers| (layout.to_owned(), numbers, Vec::<String>::new());
    // LayerNorm(512) of 2 × 10 tokens, and all features of a sample
    for norm in ["layer", "rms", "gemma-rms", "rms-scaling"] {
        assert_eq!(
            readings(&format!("2,10,512 --norm {norm}")),
            [of("NTC", [20, 512, 512]), of("NTC", [2, 5120, 512])]
        );
    }
    assert_eq!(
        readings("8,32,28,28 --norm layer"),
        [of("NCHW", [8, 25_088, 32]), of("NCHW", [6272, 32, 32])]
    );
    // what is named is taken, without a warning against the usual layer
    assert_eq!(readings("2,10,512 --norm layer --axes -1"), [of("NTC", [20, 512, 512])]);
    assert_eq!(readings("8,28,28,96 --norm layer --axes -1"), [of("NHWC", [6272, 96, 96])]);
    assert_eq!(readings("8,96,28,28 --norm layer --axes 1"), [of("NCHW", [6272, 96, 96])]);
    let warned = readings("2,10,512 --norm layer --axes -1 --layout nct");
    assert_eq!(warned[0].2, ["not-the-channels"]);
    // one position: both are the same
    assert_eq!(readings("8,64 --norm layer"), [of("NC", [8, 64, 64])]);
    assert_eq!(readings("8,64,1,1 --norm layer").len(), 1);

    let told = text("explain --shape 2,10,512 --norm layer");
    let heads: Vec<&str> = told.lines().filter(|line| line.starts_with("Reading")).collect();
    assert_eq!(
        heads,
        [
            "Reading 1 of 2: the features of each position, as in transformers",
            "Reading 2 of 2: all features of a sample, as in Wu and He's figure"
        ]
    );
    // what is warned of once is not said again
    assert_eq!(text("explain --shape 100,32,32 --norm layer").matches("warning").count(), 1);
    assert_eq!(svg("2,10,512 --norm layer").matches("<g class=").count(), 2);
}

#[test]
fn lengths_stand_with_commas_or_crosses() {
    for norm in ["batch", "layer"] {
        let expected = json(&format!("explain --shape 8,32,4 --norm {norm}"));
        for shape in ["8x32x4", "8X32X4", "8×32×4", "8,32x4"] {
            assert_eq!(json(&format!("explain --shape {shape} --norm {norm}")), expected);
        }
    }
    refuses("explain --shape 8xx4 --norm batch", &["--shape", "such as 8,32 or 8x32"]);
}

#[test]
fn what_cannot_be_explained_is_refused() {
    refuses(
        "explain --shape 8,10,4,4 --norm group --groups 4",
        &["10 channels", "possible: 1, 2, 5, 10"],
    );
    refuses(
        "explain --shape 8,10,4,4 --norm ghost --virtual-batch 0",
        &["size of a part is 0", "at least 1"],
    );
    refuses("explain --shape 8,10 --norm layer --axes 2", &["axis 2 does not exist", "-2 to 1"]);
    refuses(
        "explain --shape 8,10 --norm batch --groups 2",
        &["--groups says nothing about --norm batch", "--norm group"],
    );
    refuses("explain --shape 8,10 --norm layer --axis 1", &["--axes 1"]);
    refuses("explain --shape 8,10 --norm batch --layout nhwc", &["one letter for each axis"]);
    refuses("explain --shape 8,0 --norm batch", &["length 0"]);
    refuses("explain --shape 8 --norm batch", &["2 to 5 axes"]);
    refuses("explain --shape 8,x --norm batch", &["--shape"]);
    refuses("explain --shape 8,4 --norm bach", &["batch"]);
    refuses("explain --norm batch", &["--shape"]);
    refuses(
        "explain --shape 8,4 --norm batch --svg /no/such/folder/a.svg",
        &["cannot write", "--svg"],
    );
}

#[test]
fn semantics_are_listed_shown_and_compared() {
    let list = text("semantics list");
    for name in cellnorm::Semantics::presets() {
        assert!(list.contains(&format!(" {name} ")), "{name}");
    }
    assert_eq!(
        json("semantics list").as_array().unwrap().len(),
        cellnorm::Semantics::presets().len()
    );
    assert!(text("semantics show keras-3").contains("epsilon            0.001"));
    let show = json("semantics show keras-3 --layer batch");
    assert_eq!(show["excluded"], "Normalized");
    assert_eq!(show["running_statistics"], true);
    assert_eq!(json("semantics show keras-3 layer")["running_statistics"], false);
    assert_eq!(
        (show["epsilon"].as_f64(), show["names"]["mean"].as_str()),
        (Some(1e-3), Some("moving_mean"))
    );
    let diff = json("semantics diff pytorch-2 keras-3");
    let fields: Vec<&str> = diff["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields[..3], ["epsilon", "channel_axis", "one_value"]);
    assert!(fields.contains(&"excluded"));
    assert!(text("semantics diff pytorch-2 keras-3").contains("outputs move by -0.0495 %"));
    assert_eq!(
        text("semantics diff keras-3 keras-3 --layer group"),
        "keras-3 group and keras-3 group mean the same\n"
    );
    assert_eq!(text("semantics show keras-3 layer"), text("semantics show keras-3 --layer layer"));
    assert_eq!(
        text("semantics diff pytorch-2 keras-3 group"),
        text("semantics diff pytorch-2 keras-3 --layer group")
    );
    refuses("semantics show keras-3 layer --layer batch", &["cannot be used with"]);
    refuses("semantics show keras-3 bach", &["it must be one of batch, layer,"]);
    for (preset, inputs) in [
        ("tf-keras-2-fused", "input of 4 axes with the channels on axis 1 or 3"),
        ("tf-keras-2", "input of 2 or 3 axes"),
    ] {
        let words = format!("semantics show {preset} batch");
        assert!(row(&text(&words), "applies_to").contains(inputs));
        assert!(json(&words)["applies_to"].as_str().unwrap().starts_with(inputs));
    }
    let narrow = cellnorm("semantics show tf-keras-2 batch").env("COLUMNS", "60").output().unwrap();
    let narrow = String::from_utf8(narrow.stdout).unwrap();
    assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    assert_eq!(row(&narrow, "applies_to"), row(&text("semantics show tf-keras-2"), "applies_to"));
    assert!(json("semantics show keras-3 batch")["applies_to"].is_null());
    refuses("semantics show pytroch-2", &["closest first: pytorch-2,"]);
    refuses("semantics diff pytorch-2 kears-3", &["closest first: keras-3,"]);
    refuses(
        "semantics show tfa-0.23 --layer batch",
        &["tfa-0.23 has no batch", "it has: instance, group"],
    );
    refuses(
        "semantics show pytorch-2 --layer bach",
        &["it must be one of batch, layer, instance, group, rms"],
    );
}
