//go:build ztm_router || ztm_omit_yaml

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// documents reads JSON documents, one after the other.
type documents struct{ d *json.Decoder }

func newDocuments(r io.Reader) documents {
	d := json.NewDecoder(r)
	d.UseNumber()
	return documents{d}
}

// Decode reads the next document. Its error is io.EOF after the last.
func (d documents) Decode(v any) error {
	err := d.d.Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("it is not JSON (%w), and this build of ztm reads no YAML: `ztm tunnel export` prints what it reads", err)
	}
	return err
}
