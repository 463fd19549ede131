// Package config is how the owner of an endpoint sets its cloud.
package config

import (
	"errors"
	"path/filepath"

	"ztm/tunnel/answer"
)

// Config is the configuration of the cloud. The zero value is the default.
type Config struct {
	LocalDir string `json:"localDir,omitempty"` // absolute; "" is ztmCloud/MESH in the home directory
	Exec     bool   `json:"exec,omitempty"`     // files that were published so become executable here

	// How fast contents come and go, over all transfers, in bytes a second; zero is no limit.
	LimitDown int64 `json:"limitDown,omitempty"`
	LimitUp   int64 `json:"limitUp,omitempty"`

	// Quota is how many bytes are fetched of what each other user has published now; zero is no limit.
	Quota int64 `json:"quota,omitempty"`
}

// Change is a change of a [Config]: what is nil stays.
type Change struct {
	LocalDir *string `json:"localDir,omitempty"`
	Exec     *bool   `json:"exec,omitempty"`

	LimitDown *int64 `json:"limitDown,omitempty"`
	LimitUp   *int64 `json:"limitUp,omitempty"`
	Quota     *int64 `json:"quota,omitempty"`
}

// Apply makes the change.
func (c *Config) Apply(change Change) error {
	if change.LocalDir != nil {
		c.LocalDir = *change.LocalDir
	}
	if change.Exec != nil {
		c.Exec = *change.Exec
	}
	if change.LimitDown != nil {
		c.LimitDown = *change.LimitDown
	}
	if change.LimitUp != nil {
		c.LimitUp = *change.LimitUp
	}
	if change.Quota != nil {
		c.Quota = *change.Quota
	}
	return nil
}

// minLimit is the lowest speed: below it the other end would take this one for stalled.
const minLimit = 16 << 10

// CheckLimit refuses a speed, in bytes a second, that is no limit and too low for one.
func CheckLimit(limit int64) error {
	if limit != 0 && limit < minLimit {
		return answer.Errorf(answer.BadRequest, "a limit is %d bytes a second or more", minLimit)
	}
	return nil
}

// Check says what is wrong with the configuration.
func (c *Config) Check() error {
	if err := errors.Join(CheckLimit(c.LimitDown), CheckLimit(c.LimitUp)); err != nil {
		return err
	}
	if c.Quota < 0 {
		return answer.Errorf(answer.BadRequest, "a quota of %d bytes: want the bytes of each user, or 0 for no quota", c.Quota)
	}
	if c.LocalDir != "" && !filepath.IsAbs(c.LocalDir) {
		return answer.Errorf(answer.BadRequest, "the local directory %q is not absolute", c.LocalDir)
	}
	return nil
}
