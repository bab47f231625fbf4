//! Booleans, texts, bytes and similar values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBuilder, FixedSizeBinaryBuilder, GenericBinaryBuilder, LargeStringBuilder,
    OffsetSizeTrait, StringBuilder, StringViewBuilder,
};

use super::Decoder;
use super::fields::{sized, utf8};

pub(super) struct Bools(pub(super) BooleanBuilder);

impl Decoder for Bools {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(sized::<1>(bytes)? != [0]);
        Ok(())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

pub(super) struct Texts {
    pub(super) builder: StringBuilder,
    /// The version byte of jsonb.
    pub(super) skip: usize,
}

impl Decoder for Texts {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.builder.append_value(utf8(bytes.get(self.skip..).unwrap_or_default())?);
        Ok(())
    }

    fn null(&mut self) {
        self.builder.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.builder.finish()))
    }
}

macro_rules! builder_decoder {
    ($name:ident, $builder:ty, $convert:expr) => {
        pub(super) struct $name(pub(super) $builder);

        impl Decoder for $name {
            fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
                self.0.append_value($convert(bytes)?);
                Ok(())
            }

            fn null(&mut self) {
                self.0.append_null();
            }

            fn finish(&mut self) -> Result<ArrayRef, String> {
                Ok(Arc::new(self.0.finish()))
            }
        }
    };
}

builder_decoder!(LargeTexts, LargeStringBuilder, utf8);
builder_decoder!(TextViews, StringViewBuilder, utf8);
builder_decoder!(ByteViews, BinaryViewBuilder, Ok::<&[u8], String>);
builder_decoder!(Uuids, StringBuilder, uuid_text);

pub(super) struct Bytes<O: OffsetSizeTrait>(pub(super) GenericBinaryBuilder<O>);

impl<O: OffsetSizeTrait> Decoder for Bytes<O> {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(bytes);
        Ok(())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

pub(super) struct FixedBytes(pub(super) FixedSizeBinaryBuilder);

impl Decoder for FixedBytes {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(bytes).map_err(|error| error.to_string())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

fn uuid_text(bytes: &[u8]) -> Result<String, String> {
    let hex = format!("{:032x}", u128::from_be_bytes(sized(bytes)?));
    Ok([0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-"))
}
