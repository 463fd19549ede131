package h2

import "ztm/tunnel/h2/wire"

// What users of a connection need of its wire.
type (
	Field  = wire.Field  // one header field
	Fields = wire.Fields // a field section, in order
	Code   = wire.Code   // why a stream or a connection ended
	Error  = wire.Error  // the same, with words
)
