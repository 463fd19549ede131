package spec

import (
	"errors"
	"fmt"
)

// Limits bound what passes through one end of a tunnel. They may change while flows run. The zero
// value sets none.
type Limits struct {
	RateUp   Rate `json:"rateUp,omitempty"`   // from clients to targets, of all flows together
	RateDown Rate `json:"rateDown,omitempty"` // from targets to clients, of all flows together
	MaxConns int  `json:"maxConns,omitempty"` // flows at the same time
}

// Validate returns an error if a limit makes no sense.
func (l Limits) Validate() error {
	for _, r := range []Rate{l.RateUp, l.RateDown} {
		if r < 0 || r > 0 && r < minRate {
			return fmt.Errorf("rate %d: want at least %v, or 0 for no limit", r, Rate(minRate))
		}
	}
	if l.MaxConns < 0 {
		return errors.New("the number of connections is negative")
	}
	return nil
}
