//! What flows say of files: which to read or write, and how rows stand in them.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    csv::{CsvReading, CsvWriting},
    place,
};
use crate::id::{ConnectionName, StepId};

/// Files to read into a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadStep {
    /// A template; relative to the first folder of `MILLSTREAM_FILES`, or where
    /// `connection` leads to, or an address such as `s3://bucket/key`,
    /// `az://container/name`, `gs://bucket/name` or `https://host/file`. `*`,
    /// `?`, `[…]` and `**` match several files, read in the order of their
    /// names, except over HTTP.
    pub path: String,
    /// The connection to where the files lie, unless that is a local folder or
    /// follows from `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// What the files hold; it follows from their ending when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The columns with their types, of files that do not bring them; inferred
    /// from the whole of the data when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<IndexMap<String, ColumnType>>,
    /// How rows stand in a CSV file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvReading>,
    /// Where rows stand in a workbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excel: Option<ExcelReading>,
    /// What happens to a row that does not fit.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// How many rows may be rejected before the step fails; 1000 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject_limit: Option<u32>,
    /// Where rejected rows are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<RejectsFile>,
}

impl ReadStep {
    /// How many rows may be rejected unless the flow says it.
    pub const REJECT_LIMIT: u32 = 1000;

    /// How many rows may be rejected before the step fails; none where the
    /// first one that does not fit fails it.
    pub fn rejects_max(&self) -> Option<u32> {
        match self.on_bad_row {
            OnBadRow::Fail => None,
            OnBadRow::Reject => Some(self.reject_limit.unwrap_or(Self::REJECT_LIMIT)),
        }
    }
}

/// Where rows stand in a workbook that is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExcelReading {
    /// The name of the sheet; the first one unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// The row that names the columns, from 1; the first one with something in
    /// it unless said. What stands above it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_row: Option<u32>,
}

/// A file for rows that do not fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectsFile {
    /// A template, as the path of `write`. One JSON object a line, with `file`,
    /// `line`, `reason` and `row`.
    pub path: String,
    /// The connection to where the file is to lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
}

/// A table to write into a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteStep {
    /// A template; relative to the first folder of `MILLSTREAM_FILES`, or where
    /// `connection` leads to, or an address such as `s3://bucket/key`,
    /// `az://container/name` or `gs://bucket/name`.
    pub path: String,
    /// The connection to where the file is to lie, unless that is a local folder
    /// or follows from `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// The step whose table is written.
    pub from: StepId,
    /// What the file holds; it follows from its ending when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How rows stand in a CSV file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvWriting>,
    /// Columns by whose values the rows are spread over folders below `path`,
    /// such as `country=NO/part.parquet`. The folder at `path` is replaced as
    /// a whole. `format` must be given then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
}

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow's own file format (IPC, also called Feather), with exact types.
    Arrow,
    /// Arrow's stream format, which can be read while it is written.
    #[serde(rename = "arrow-stream")]
    ArrowStream,
    /// A workbook: `.xlsx`, and for reading also `.xls` and `.ods`.
    Excel,
}

impl Format {
    /// Whether files of it can be compressed as a whole. The others are
    /// compressed inside.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json | Self::Ndjson)
    }

    /// Whether its files hold texts that stand for values, rather than values
    /// with types of their own.
    pub fn has_texts(self) -> bool {
        !self.is_typed()
    }

    /// The ending of its files, without the dot.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::ArrowStream => "arrows",
            Self::Excel => "xlsx",
        }
    }

    /// Whether its files bring the types of their columns.
    pub fn is_typed(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::ArrowStream)
    }

    /// The format that a path's ending stands for: `.csv`, or `.csv.gz` for a
    /// compressed file.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = match Compression::split(path) {
            Some((inner, _)) => inner,
            None => path,
        };
        let (_, ending) = place::without_query(path).rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "arrow" => Some(Self::Arrow),
            "arrows" => Some(Self::ArrowStream),
            "xlsx" | "xls" | "ods" => Some(Self::Excel),
            _ => None,
        }
    }
}

/// How a file is made smaller as a whole. It follows from the ending of its
/// name, which stands behind that of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// The compression that a path's ending stands for.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::split(path).map(|(_, compression)| compression)
    }

    /// The path without the ending that stands for a compression, and which.
    fn split(path: &str) -> Option<(&str, Self)> {
        let (inner, ending) = place::without_query(path).rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "gz" => Some((inner, Self::Gzip)),
            "zst" => Some((inner, Self::Zstd)),
            _ => None,
        }
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A floating-point number of 64 bits.
    Number,
    /// An exact number with 38 digits, 9 of them behind the point.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// A day: `2026-11-24`.
    Date,
    /// A moment: `2026-11-24T10:00:00Z`; without a zone it is UTC.
    Datetime,
}

/// What happens to a row that does not fit its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRow {
    /// The step fails and names file, line and reason.
    #[default]
    Fail,
    /// It is left out and counted, and can be written into a file of its own.
    Reject,
}
