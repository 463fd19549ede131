package spec

import (
	"errors"
	"fmt"
	"time"

	"ztm/apps"
)

// maxIdle bounds how long a client that is gone may be remembered.
const maxIdle = apps.Duration(24 * time.Hour)

// checkIdle checks an idle timeout.
func checkIdle(d apps.Duration, protocol string) error {
	switch {
	case d != 0 && protocol != UDP:
		return errors.New("only udp tunnels have one: a tcp connection ends when one of its ends ends it")
	case d != 0 && d < apps.Duration(time.Second), d > maxIdle:
		return fmt.Errorf("%v is not between 1s and %v", d, maxIdle)
	}
	return nil
}
