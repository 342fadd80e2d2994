//! Builds a graph node by node. Values are named by what they are, within the part of the graph that is being built.

use std::collections::BTreeMap;

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

/// A value of the graph, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// Its name in the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// float32.
    F32,
    /// float64.
    F64,
    /// int64.
    I64,
    /// uint8.
    U8,
}

impl Element {
    fn code(self) -> i32 {
        match self {
            Self::F32 => DataType::Float as i32,
            Self::F64 => DataType::Double as i32,
            Self::I64 => DataType::Int64 as i32,
            Self::U8 => DataType::Uint8 as i32,
        }
    }
}

/// Length of an axis of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Always this.
    Fixed(usize),
    /// Known when the graph runs; axes of one name are of one length.
    Named(&'static str),
}

/// An attribute's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute<'a> {
    /// int64.
    Int(i64),
    /// Several of them.
    Ints(&'a [i64]),
    /// float32.
    Float(f32),
    /// The type of a tensor's elements.
    Type(Element),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
    /// Goes before the names of what is added.
    scope: String,
    /// How often a name was asked for.
    taken: BTreeMap<String, usize>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: Some(name.to_owned()), ..GraphProto::default() }, ..Self::default() }
    }

    /// Names of what is added from now on begin with this and a slash; empty: with nothing.
    pub fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// A new name: `SCOPE/hint`, with a number where that is taken.
    fn name(&mut self, hint: &str) -> String {
        let name = if self.scope.is_empty() { hint.to_owned() } else { format!("{}/{hint}", self.scope) };
        let count = self.taken.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}#{count}") }
    }

    /// An input of the graph, outermost axis first. Its name is the caller's to keep unique.
    pub fn input(&mut self, name: &str, element: Element, shape: &[Extent]) -> Value {
        self.graph.input.push(value_info(name, element, shape));
        Value(name.to_owned())
    }

    /// Makes a value an output of the graph under this name, outermost axis first.
    pub fn output(&mut self, name: &str, value: &Value, element: Element, shape: &[Extent]) {
        let node = NodeProto {
            input: vec![value.0.clone()],
            output: vec![name.to_owned()],
            name: Some(format!("output/{name}")),
            op_type: Some("Identity".into()),
            ..NodeProto::default()
        };
        self.graph.node.push(node);
        self.graph.output.push(value_info(name, element, shape));
    }

    /// A constant of float32 numbers, row-major in the order of `shape`.
    ///
    /// # Panics
    /// If there are not as many as `shape` says.
    pub fn floats(&mut self, hint: &str, shape: &[usize], data: &[f32]) -> Value {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "constant `{hint}` of {shape:?}");
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(hint, Element::F32, shape, bytes)
    }

    /// A single float32 number.
    pub fn float(&mut self, hint: &str, value: f32) -> Value {
        self.floats(hint, &[], &[value])
    }

    /// A constant of float64 numbers, row-major in the order of `shape`.
    ///
    /// # Panics
    /// If there are not as many as `shape` says.
    pub fn doubles(&mut self, hint: &str, shape: &[usize], data: &[f64]) -> Value {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "constant `{hint}` of {shape:?}");
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(hint, Element::F64, shape, bytes)
    }

    /// A constant of int64 numbers, row-major in the order of `shape`.
    ///
    /// # Panics
    /// If there are not as many as `shape` says.
    pub fn ints(&mut self, hint: &str, shape: &[usize], data: &[i64]) -> Value {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "constant `{hint}` of {shape:?}");
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(hint, Element::I64, shape, bytes)
    }

    /// A single int64 number.
    pub fn int(&mut self, hint: &str, value: i64) -> Value {
        self.ints(hint, &[], &[value])
    }

    fn constant(&mut self, hint: &str, element: Element, shape: &[usize], bytes: Vec<u8>) -> Value {
        let name = self.name(hint);
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: Some(element.code()),
            name: Some(name.clone()),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        Value(name)
    }

    /// A node with one output, which is named after `hint`.
    pub fn node(
        &mut self,
        hint: &str,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Value {
        self.node_of(hint, op, inputs, attributes, 1).swap_remove(0)
    }

    /// A node with several outputs.
    pub fn node_of(
        &mut self,
        hint: &str,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
        outputs: usize,
    ) -> Vec<Value> {
        let name = self.name(hint);
        let named = |i: usize| if i == 0 { name.clone() } else { format!("{name}:{i}") };
        let values: Vec<Value> = (0..outputs).map(|i| Value(named(i))).collect();
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|v| v.0.clone()).collect(),
            output: values.iter().map(|v| v.0.clone()).collect(),
            name: Some(name),
            op_type: Some(op.to_owned()),
            attribute: attributes.iter().map(|(name, value)| attribute(name, *value)).collect(),
            ..NodeProto::default()
        });
        values
    }

    /// The graph.
    #[must_use]
    pub fn finish(self) -> GraphProto {
        self.graph
    }
}

fn attribute(name: &str, value: Attribute<'_>) -> AttributeProto {
    let mut a = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Int(i) => {
            a.i = Some(i);
            AttributeType::Int
        }
        Attribute::Type(element) => {
            a.i = Some(element.code().into());
            AttributeType::Int
        }
        Attribute::Ints(ints) => {
            a.ints = ints.to_vec();
            AttributeType::Ints
        }
        Attribute::Float(f) => {
            a.f = Some(f);
            AttributeType::Float
        }
    };
    a.r#type = Some(kind as i32);
    a
}

fn value_info(name: &str, element: Element, shape: &[Extent]) -> ValueInfoProto {
    let dim = shape.iter().map(|&extent| Dimension {
        value: Some(match extent {
            Extent::Fixed(n) => dimension::Value::DimValue(n as i64),
            Extent::Named(name) => dimension::Value::DimParam(name.to_owned()),
        }),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(element.code()),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..ValueInfoProto::default() }
}
