//! Files to import: plain or gzipped, told by their first bytes.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::Context;
use flate2::read::MultiGzDecoder;

pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let gzipped = reader.fill_buf().with_context(|| path.display().to_string())?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzipped {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader)))
    } else {
        Box::new(reader)
    })
}

/// The name without folder, `.gz` and the kind of file.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".GZ")).unwrap_or(&name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

/// Comma-separated values, by the name of the file.
pub(crate) fn is_csv(path: &Path) -> bool {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Path::new(name).extension().is_some_and(|extension| extension == "csv")
}

pub(crate) fn csv_reader<R: Read>(reader: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().flexible(true).from_reader(reader)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn a_gzipped_file_is_told_by_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, gzipped) in [("a.csv", false), ("a.csv.gz", true), ("plain.gz", false)] {
            let path = folder.path().join(name);
            let mut file = File::create(&path).expect("made");
            if gzipped {
                let mut gz = GzEncoder::new(file, Compression::fast());
                gz.write_all(b"text").expect("written");
                gz.finish().expect("ended");
            } else {
                file.write_all(b"text").expect("written");
            }
            let mut text = String::new();
            open(&path).expect("opened").read_to_string(&mut text).expect("read");
            assert_eq!(text, "text", "{name}");
        }
    }

    #[test]
    fn names_say_what_is_inside() {
        for (path, name, csv) in [
            ("some/icecat-products.ndjson.gz", "icecat-products", false),
            ("goods.csv", "goods", true),
            ("GOODS.CSV.GZ", "GOODS", true),
            ("goods.csv.gz", "goods", true),
            ("goods", "goods", false),
        ] {
            assert_eq!(stem(Path::new(path)), name, "{path}");
            assert_eq!(is_csv(Path::new(path)), csv, "{path}");
        }
    }
}
