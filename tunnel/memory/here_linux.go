package memory

import "os"

func here() Limit { return Of(os.DirFS("/")) }
