//! Writing a folded model: into a folder beside its place first, moved into it when all is written
//! and checked. Every field stays as it was, except those of changed nodes and constants.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::slice;

use crate::fold::{Changes, Folded, NewTensor};
use crate::proto::wire::{self, Compute, Rope, message, put_bytes, put_entry, put_integer};
use crate::proto::{Attribute, Graph, Model, Node, Part, Tensor, Value};
use crate::{error::Error, source::Source};

/// The largest protocol buffer.
const LARGEST: u64 = i32::MAX as u64;

/// A folded model that is written but not yet in its place; it is removed unless
/// [`keep`](Self::keep) is called.
#[derive(Debug)]
pub struct Draft {
    /// The model's place.
    path: PathBuf,
    /// The folder that it lies in until then.
    folder: PathBuf,
    /// The names of the files in it that go to the place, the model's last.
    files: Vec<PathBuf>,
}

impl Draft {
    /// Writes a folded model beside `path`, with its new numbers in the model itself, or in a side
    /// file if the model keeps its numbers in such.
    ///
    /// # Errors
    /// If a file cannot be written, a side file of the model would take another file's place, or
    /// the model would be larger than a protocol buffer can be. Then nothing is left of it.
    pub fn write(source: &Source, folded: &Folded<'_>, path: &Path) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| failed(path, "it names no file"))?;
        let name = name.to_string_lossy().into_owned();
        if path.exists() && !path.is_file() {
            return Err(failed(path, "what is there is no regular file"));
        }
        let mut sides = source.side_files().map(|(side, _)| parent(source.path()).join(side));
        if sides.any(|side| same_file(path, &side)) {
            return Err(failed(path, "it is a side file of the model"));
        }
        let folder = parent(path).join(format!(".{name}.{}.partial", std::process::id()));
        fs::create_dir_all(&folder)
            .map_err(|source| Error::Write { path: folder.clone(), source })?;
        let mut draft = Self { path: path.to_owned(), folder, files: Vec::new() };
        draft.copy_side_files(source)?;
        let is_free = |side: &String| {
            source.side_files().all(|(old, _)| old != side) && !parent(path).join(side).exists()
        };
        let mut new_names = (0_u64..).map(|count| format!("{name}.folded{count}.data"));
        let has_side_files = source.side_files().next().is_some();
        let side_name = if has_side_files { new_names.find(is_free) } else { None };
        let before = folded.report.before.batch_norms;
        let note = format!(
            "{} of {before} batch normalization{} folded by cellnorm {}",
            before - folded.report.after.batch_norms,
            if before == 1 { "" } else { "s" },
            env!("CARGO_PKG_VERSION")
        );
        let (model, side) = encode(&folded.model, &folded.changes, &note, side_name.as_deref());
        if model.length() > LARGEST {
            return Err(Error::TooLarge { bytes: model.length() });
        }
        if let Some(name) = side_name.filter(|_| !side.is_empty()) {
            let write = |out: &mut dyn Write| side.iter().try_for_each(|all| all.write_to(out));
            draft.put(name.into(), write)?;
        }
        draft.put(name.into(), |out| model.write_to(out))?;
        Ok(draft)
    }

    /// Copies the side files: with a hard link, writing to one model would change the other. Files
    /// that are at the place already stay there, and the draft links to them until it is kept.
    fn copy_side_files(&mut self, source: &Source) -> Result<(), Error> {
        for (name, _) in source.side_files() {
            let (old, new) = (parent(source.path()).join(name), self.folder.join(name));
            let place = parent(&self.path).join(name);
            let stays = same_file(&place, &old);
            if !stays && place.symlink_metadata().is_ok() {
                let problem = "another file of this name is there, and the model needs its own; \
                               name another folder";
                return Err(failed(&place, problem));
            }
            let put = || {
                fs::create_dir_all(parent(&new))?;
                let is_linked = stays && fs::hard_link(fs::canonicalize(&old)?, &new).is_ok();
                if is_linked { Ok(()) } else { fs::copy(&old, &new).map(drop) }
            };
            put().map_err(|source| Error::Write { path: new.clone(), source })?;
            if !stays {
                self.files.push(name.into());
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: PathBuf,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.folder.join(&name);
        let attempt = || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(1 << 18, File::create(&path)?);
            write(&mut out)?;
            out.flush()
        };
        attempt().map_err(|source| Error::Write { path, source })?;
        self.files.push(name);
        Ok(())
    }

    /// Where the model lies until it is kept.
    pub fn path(&self) -> PathBuf {
        self.files.last().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// Puts the files in their place, the model last.
    ///
    /// # Errors
    /// If one cannot be renamed.
    pub fn keep(self) -> Result<(), Error> {
        for name in &self.files {
            let place = parent(&self.path).join(name);
            let moved = fs::create_dir_all(parent(&place))
                .and_then(|()| fs::rename(self.folder.join(name), &place));
            moved.map_err(|source| Error::Write { path: place, source })?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // what cannot be removed stays under a name that says what it is
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder that a file lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

fn failed(path: &Path, problem: &str) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidInput, problem);
    Error::Write { path: path.to_owned(), source }
}

/// The key of the model's metadata under which a note of the folding is left.
const NOTE: &str = "cellnorm.fold";

/// Puts a folded model together: its bytes, and the numbers of its new side file in order. `note`
/// is left in its metadata; `side` is the file that the numbers of new tensors go to, `None` for
/// the model itself.
fn encode<'r>(
    model: &'r Model<'_>,
    changes: &'r [Changes<'_>],
    note: &str,
    side: Option<&str>,
) -> (Rope<'r>, Vec<&'r dyn Compute>) {
    let mut encoder = Encoder { changes: changes.iter(), side, offset: 0, numbers: Vec::new() };
    let mut rope = Rope::default();
    for (index, field) in model.fields.iter().enumerate() {
        if index == model.graph_at {
            let graph = encoder.graph(&model.graph, model.ir_version < 4);
            rope.push_message(7, graph);
        } else if !is_note(field) {
            rope.push_borrowed(field);
        }
    }
    rope.push_owned(|out| put_entry(out, 14, NOTE, note));
    (rope, encoder.numbers)
}

struct Encoder<'r, 's> {
    changes: slice::Iter<'r, Changes<'r>>,
    side: Option<&'s str>,
    /// The numbers of the side file, and how many bytes they are.
    numbers: Vec<&'r dyn Compute>,
    offset: u64,
}

impl<'r> Encoder<'r, '_> {
    /// A graph; `constants_are_inputs` if it has to name new constants among its inputs.
    fn graph(&mut self, graph: &'r Graph<'_>, constants_are_inputs: bool) -> Rope<'r> {
        let mut rope = Rope::default();
        let Some(changes) = self.changes.next() else { return rope };
        for part in &graph.parts {
            match part {
                Part::Raw(raw) => rope.push_borrowed(raw),
                Part::Node(id) => self.node(&mut rope, graph, &graph.nodes[*id]),
                Part::Initializer(id) if changes.dropped.contains(id) => {}
                Part::Initializer(id) => match changes.replaced.get(id) {
                    Some(new) => {
                        let old = &graph.initializers[*id];
                        self.tensor(&mut rope, old.name, Some(old), new);
                    }
                    None => rope.push_message(5, unchanged(graph.initializers[*id].message)),
                },
                // a caller must not set numbers that now hold those of other nodes, too
                Part::Described(id, raw)
                    if !constants_are_inputs && is_frozen(changes, &graph.values[*id], raw) => {}
                Part::Described(id, _) if is_gone(changes, &graph.values[*id]) => {}
                Part::Described(_, raw) => rope.push_borrowed(raw),
            }
        }
        for (id, new) in &changes.added {
            let name = &graph.values[*id].name;
            self.tensor(&mut rope, name, None, new);
            // before version 4 of the format a constant of the model's own graph had to be an input
            // as well
            if constants_are_inputs {
                rope.push_owned(|out| put_bytes(out, 11, &description(name, new)));
            }
        }
        rope
    }

    fn node(&mut self, rope: &mut Rope<'r>, graph: &'r Graph<'_>, node: &'r Node<'_>) {
        if node.removed {
            return;
        }
        if !node.changed {
            // the graphs inside have unchanged constants, too
            node.graphs().for_each(|inner| self.skip_changes(inner));
            rope.push_message(1, unchanged(node.message));
            return;
        }
        let mut message = Rope::default();
        let name =
            |value: &Option<usize>| value.map_or(&[][..], |id| graph.values[id].name.as_bytes());
        message.push_owned(|out| {
            node.inputs.iter().for_each(|input| put_bytes(out, 1, name(input)));
            node.outputs.iter().for_each(|output| put_bytes(out, 2, name(output)));
            if node.message.is_empty() {
                put_bytes(out, 4, node.op.as_bytes());
            }
        });
        push_fields(&mut message, node.message, |number| !matches!(number, 1 | 2 | 5));
        for attribute in &node.attributes {
            let attribute = self.attribute(attribute);
            message.push_message(5, attribute);
        }
        rope.push_message(1, message);
    }

    fn attribute(&mut self, attribute: &'r Attribute<'_>) -> Rope<'r> {
        if attribute.graphs.is_empty() {
            return unchanged(attribute.message);
        }
        let mut rope = Rope::default();
        let mut graphs = attribute.graphs.iter();
        for field in wire::fields(attribute.message).flatten() {
            let inner = if matches!(field.number, 6 | 11) { graphs.next() } else { None };
            match inner.map(|inner| self.graph(inner, false)) {
                Some(graph) => rope.push_message(field.number, graph),
                None => rope.push_borrowed(field.raw),
            }
        }
        rope
    }

    /// Skips the changes of a graph and of those inside it, which are none.
    fn skip_changes(&mut self, graph: &Graph<'_>) {
        self.changes.next();
        graph.inner_graphs().for_each(|inner| self.skip_changes(inner));
    }

    /// A constant with new numbers; the other fields of the old one stay.
    fn tensor(
        &mut self,
        rope: &mut Rope<'r>,
        name: &str,
        old: Option<&'r Tensor<'_>>,
        new: &'r NewTensor<'_>,
    ) {
        let mut message = Rope::default();
        message.push_owned(|out| {
            new.dims.iter().for_each(|length| put_integer(out, 1, *length as i64));
            put_integer(out, 2, new.numbers.float().data_type().into());
            put_bytes(out, 8, name.as_bytes());
        });
        if let Some(old) = old {
            push_fields(
                &mut message,
                old.message,
                |number| !matches!(number, 1..=2 | 4..=11 | 13 | 14),
            );
        }
        match self.side {
            None => message.push_computed(9, &new.numbers),
            Some(side) => {
                let length = new.numbers.length();
                message.push_owned(|out| {
                    put_entry(out, 13, "location", side);
                    put_entry(out, 13, "offset", &self.offset.to_string());
                    put_entry(out, 13, "length", &length.to_string());
                    put_integer(out, 14, 1);
                });
                self.offset += length;
                self.numbers.push(&new.numbers);
            }
        }
        rope.push_message(5, message);
    }
}

/// A message as it was.
fn unchanged(message: &[u8]) -> Rope<'_> {
    let mut rope = Rope::default();
    rope.push_borrowed(message);
    rope
}

/// Appends the fields of a message that have certain numbers.
fn push_fields<'r>(rope: &mut Rope<'r>, message: &'r [u8], stays: impl Fn(u32) -> bool) {
    let fields = wire::fields(message).flatten().filter(|field| stays(field.number));
    fields.for_each(|field| rope.push_borrowed(field.raw));
}

/// Whether a field makes an input of a constant that has new numbers.
fn is_frozen(changes: &Changes<'_>, value: &Value<'_>, raw: &[u8]) -> bool {
    let is_input = wire::fields_numbered(raw, 11).next().is_some();
    is_input && value.initializer.is_some_and(|tensor| changes.replaced.contains_key(&tensor))
}

/// Whether nothing of a described value is left.
fn is_gone(changes: &Changes<'_>, value: &Value<'_>) -> bool {
    let is_left = match value.initializer {
        Some(tensor) => !changes.dropped.contains(&tensor),
        None => value.input,
    };
    !value.output && !is_left && value.producer.is_none()
}

/// Whether a field of the model is the note of an earlier folding.
fn is_note(field: &[u8]) -> bool {
    let entries = wire::fields_numbered(field, 14);
    let mut keys = entries.filter_map(|entry| wire::fields_numbered(entry.bytes().ok()?, 1).next());
    keys.any(|key| key.bytes() == Ok(NOTE.as_bytes()))
}

/// A `ValueInfoProto` of a new constant.
fn description(name: &str, new: &NewTensor<'_>) -> Vec<u8> {
    let mut shape = Vec::new();
    for length in &new.dims {
        let mut dimension = Vec::new();
        put_integer(&mut dimension, 1, *length as i64);
        put_bytes(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    put_integer(&mut tensor, 1, new.numbers.float().data_type().into());
    put_bytes(&mut tensor, 2, &shape);
    let mut described = message(1, name.as_bytes());
    put_bytes(&mut described, 2, &message(1, &tensor));
    described
}
