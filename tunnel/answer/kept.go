package answer

import (
	"bytes"
	"fmt"
	"net/http"
)

// Kept is an answer in memory, for a request that stays within this process. Make it with [NewKept].
// It is for one goroutine.
type Kept struct {
	Status int
	Body   bytes.Buffer

	header http.Header
	most   int
}

var _ http.ResponseWriter = (*Kept)(nil)

// NewKept makes an answer whose body has at most so many bytes; 0 is no limit.
func NewKept(most int) *Kept { return &Kept{Status: http.StatusOK, header: http.Header{}, most: most} }

// Header implements [http.ResponseWriter].
func (k *Kept) Header() http.Header { return k.header }

// WriteHeader implements [http.ResponseWriter].
func (k *Kept) WriteHeader(status int) { k.Status = status }

// Write implements [http.ResponseWriter]. What would exceed the limit is an error, and not kept.
func (k *Kept) Write(b []byte) (int, error) {
	if k.most > 0 && k.Body.Len()+len(b) > k.most {
		return 0, fmt.Errorf("an answer of more than %d bytes", k.most)
	}
	return k.Body.Write(b)
}
