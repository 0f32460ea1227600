// The verdict of kstatus, the library by which Helm 4 and Flux wait, on each resource of a stream of JSON objects.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	resources, verdicts := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var text json.RawMessage
		if err := resources.Decode(&text); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		var resource unstructured.Unstructured
		if err := resource.UnmarshalJSON(text); err != nil {
			log.Fatal(err)
		}
		verdict, err := status.Compute(&resource)
		if err != nil {
			log.Fatal(err)
		}
		if err := verdicts.Encode(map[string]string{"status": verdict.Status.String(), "message": verdict.Message}); err != nil {
			log.Fatal(err)
		}
	}
}
