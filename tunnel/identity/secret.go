package identity

// secret is bytes that formatting cannot reach. The types that hold one redact themselves, but fmt
// does not ask an unexported field to, and then follows pointers: it never calls functions.
type secret func() []byte

func hide(b []byte) secret { return func() []byte { return b } }
