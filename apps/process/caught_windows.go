package process

import "os"

// ending are the signals that end a command.
var ending = []os.Signal{os.Interrupt}
