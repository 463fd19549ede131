package answer

import (
	"fmt"
	"net/http"
)

// Explain says what a request has changed, to whoever records that: a w that has the method Explain. Any
// other is left alone.
func Explain(w http.ResponseWriter, format string, args ...any) {
	if e, ok := w.(interface{ Explain(detail string) }); ok {
		e.Explain(fmt.Sprintf(format, args...))
	}
}
