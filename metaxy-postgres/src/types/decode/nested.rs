//! Lists, and nested values in JSON.

use arrow::array::{ArrayRef, BooleanBufferBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::{Decoder, Fields};
use crate::types::json;

pub(super) struct Json {
    pub(super) reader: json::Reader,
    pub(super) skip: usize,
}

impl Decoder for Json {
    fn recovers(&self) -> bool {
        false
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.read(bytes.get(self.skip..).unwrap_or_default())
    }

    fn null(&mut self) {
        self.reader.null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        self.reader.finish()
    }
}

pub(super) struct Lists {
    item: Box<dyn Decoder>,
    /// The number of items; greater than the last end if an error interrupted a list.
    items: usize,
    ends: Vec<usize>,
    nulls: BooleanBufferBuilder,
    data_type: DataType,
}

impl Lists {
    /// Creates a decoder for lists of a type, from one for their items.
    pub(super) fn new(item: Box<dyn Decoder>, data_type: &DataType) -> Self {
        Self { item, items: 0, ends: vec![0], nulls: BooleanBufferBuilder::new(0), data_type: data_type.clone() }
    }

    fn end(&mut self, valid: bool) {
        self.ends.push(self.items);
        self.nulls.append(valid);
    }
}

impl Decoder for Lists {
    fn recovers(&self) -> bool {
        self.item.recovers()
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut fields = Fields(bytes);
        let (dimensions, _has_nulls, _element) = (fields.int()?, fields.int()?, fields.int()?);
        let count = match dimensions {
            0 => 0,
            1 => {
                let count = fields.int()?;
                fields.int()?;
                count
            }
            _ => return Err(format!("it holds an array of {dimensions} dimensions, but a list has one")),
        };
        if let DataType::FixedSizeList(_, size) = self.data_type
            && count != size
        {
            return Err(format!("it holds a list of {count} items, and its type has {size}"));
        }
        for _ in 0..count {
            match fields.field()? {
                Some(bytes) => self.item.value(bytes)?,
                None => self.item.null(),
            }
            self.items += 1;
        }
        self.end(true);
        Ok(())
    }

    fn null(&mut self) {
        if let DataType::FixedSizeList(_, size) = self.data_type {
            let full = self.ends.last().copied().unwrap_or_default() + size as usize;
            (self.items..full).for_each(|_| self.item.null());
            self.items = full;
        }
        self.end(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        self.items = 0;
        json::list_array(self.item.finish()?, &ends, NullBuffer::new(self.nulls.finish()), &self.data_type)
    }
}
