//! The methods of a config that set one field each.

/// For each `field: type`, with its documentation: `pub fn field(mut self, field: type) -> Self`.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {$(
        $(#[$doc])*
        pub fn $field(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )*};
}
