package spec

import "encoding/json"

// scalar returns a JSON string or number as it is written: a port or a rate may be a number.
func scalar(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] != '"' {
		var n json.Number
		err := json.Unmarshal(b, &n)
		return []byte(n), err
	}
	var s string
	err := json.Unmarshal(b, &s)
	return []byte(s), err
}

// UnmarshalJSON takes a port as a number, too.
func (a *Address) UnmarshalJSON(b []byte) error {
	text, err := scalar(b)
	if err != nil {
		return err
	}
	return a.UnmarshalText(text)
}

// UnmarshalJSON takes bytes per second as a number, too.
func (r *Rate) UnmarshalJSON(b []byte) error {
	text, err := scalar(b)
	if err != nil {
		return err
	}
	return r.UnmarshalText(text)
}
