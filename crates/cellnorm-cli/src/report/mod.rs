//! report
use crate::error::Error;
use crate::results::Results;
pub fn render(_results: &Results) -> Result<String, Error> {
    Ok(String::new())
}
