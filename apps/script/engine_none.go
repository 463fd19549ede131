//go:build ztm_router || ztm_omit_js

package script

// engine reports that this build has no JavaScript engine: choose says so, and what the endpoint
// has instead.
func engine() (interpreter, bool) { return interpreter{}, false }
