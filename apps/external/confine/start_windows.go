package confine

import "os"

// start fails: a program cannot be handed a socket as a descriptor of a known number here.
func start(Order, []*os.File) (*os.Process, error) { return nil, ErrUnable }

func launch([]string) int { return 1 }
