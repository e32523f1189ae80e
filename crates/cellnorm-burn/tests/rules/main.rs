//! The layers that Burn has from the arrays' rules and formulas give what these give, on Flex, and
//! composed of Burn's own operations on another device.

mod adaptive;
mod averages;
mod common;
mod layers;
mod lines;
mod masks;
mod switches;
mod tlu;
