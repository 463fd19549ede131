package apps

import (
	"fmt"
	"io"
	"os"
)

// Input opens a file to read that a command line names; - is standard input.
func Input(stdin io.Reader, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(name)
}

// ReadInput reads all of an [Input] of at most so many bytes.
func ReadInput(stdin io.Reader, name string, most int64) ([]byte, error) {
	in, err := Input(stdin, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", InputName(name), most)
	}
	return b, err
}

// InputName is an [Input] in an error.
func InputName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}
