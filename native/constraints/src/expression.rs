use std::rc::Rc;

/// Bytes in a range, both ends included.
pub(crate) type Span = (u8, u8);

/// A regular expression over bytes. Shared parts are built once and emitted where they are used.
#[derive(Debug)]
pub(crate) enum Expression {
    /// These bytes.
    Bytes(Vec<u8>),
    /// One of these sequences, each a range per byte: a class of characters.
    Class(Vec<Vec<Span>>),
    /// One after the other.
    Sequence(Vec<Rc<Expression>>),
    /// One of them; of an empty list, nothing.
    Either(Vec<Rc<Expression>>),
    /// `least` to `most` times; no `most`: any number.
    Repeat { inner: Rc<Expression>, least: u32, most: Option<u32> },
    /// Members of an object in this order, `, ` between those that are there.
    Members(Vec<Member>),
}

/// One property of an object.
#[derive(Debug)]
pub(crate) struct Member {
    /// The name as JSON, with `: ` behind it.
    pub(crate) name: Vec<u8>,
    pub(crate) value: Rc<Expression>,
    pub(crate) required: bool,
}

impl Expression {
    pub(crate) fn text(text: &str) -> Rc<Self> {
        Rc::new(Self::Bytes(text.as_bytes().to_vec()))
    }

    pub(crate) fn sequence(parts: impl IntoIterator<Item = Rc<Self>>) -> Rc<Self> {
        Rc::new(Self::Sequence(parts.into_iter().collect()))
    }

    pub(crate) fn either(parts: impl IntoIterator<Item = Rc<Self>>) -> Rc<Self> {
        Rc::new(Self::Either(parts.into_iter().collect()))
    }

    pub(crate) fn repeat(inner: Rc<Self>, least: u32, most: Option<u32>) -> Rc<Self> {
        Rc::new(Self::Repeat { inner, least, most })
    }
}
