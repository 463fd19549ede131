//go:build !ztm_router && !ztm_omit_yaml

package tunnel

import (
	"io"

	"go.yaml.in/yaml/v3"
)

// newDocuments reads documents that are separated by lines of "---".
func newDocuments(r io.Reader) *yaml.Decoder { return yaml.NewDecoder(r) }
