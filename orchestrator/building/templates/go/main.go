// The component's main package; it only brings the exports along.
package main

import _ "sample-agent/bindings/wit_exports"

func main() {}
