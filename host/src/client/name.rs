//! Names that the caller gave.

use skiff_proto::Name;
use skiff_proto::name::MAX_NAME;

use super::error::Error;

/// Checks a name that the caller gave.
pub(super) fn parse(name: &str) -> Result<Name<'_>, Error> {
    Name::parse(name.as_bytes(), MAX_NAME).map_err(|source| Error::BadName { name: name.to_owned(), source })
}

/// Checks several names.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> Result<impl Iterator<Item = Name<'a>>, Error> {
    Ok(names.map(parse).collect::<Result<Vec<_>, _>>()?.into_iter())
}
