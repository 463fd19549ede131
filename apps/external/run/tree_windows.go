package run

import "errors"

func terminate(int)         {}
func killAll(int)           {}
func count(int) int         { return 0 }
func own(string, int) error { return errors.ErrUnsupported }
