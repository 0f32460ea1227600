// A controller as a team writes it that knows Go: each new generation of a resource becomes one request.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const workers = 10

var kind = schema.GroupVersionKind{Group: "plain.test", Version: "v1", Kind: "Endpoint"}

type reconciler struct {
	cluster  client.Client
	provider *http.Client
	origin   string
	token    string
}

// Reconcile sends the update of a generation that the status does not speak of yet.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	found := empty()
	if err := r.cluster.Get(ctx, request.NamespacedName, found); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, _, _ := unstructured.NestedInt64(found.Object, "status", "observedGeneration")
	if seen == found.GetGeneration() {
		return ctrl.Result{}, nil
	}
	if err := r.update(ctx, found); err != nil {
		return ctrl.Result{}, err
	}
	status := map[string]any{"observedGeneration": found.GetGeneration(), "state": "Applied"}
	found.Object["status"] = status
	return ctrl.Result{}, r.cluster.Status().Update(ctx, found)
}

func (r *reconciler) update(ctx context.Context, found *unstructured.Unstructured) error {
	id, _, _ := unstructured.NestedString(found.Object, "spec", "endpointId")
	update, _, _ := unstructured.NestedMap(found.Object, "spec", "update")
	body, err := json.Marshal(update)
	if err != nil {
		return err
	}
	url := r.origin + "/dedicated/beta/endpoint/" + id
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := r.provider.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var held map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&held); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %d", answer.StatusCode)
	}
	return nil
}

func empty() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	return object
}

func main() {
	ctrl.SetLogger(zap.New())
	namespaces := map[string]cache.Config{os.Getenv("NAMESPACE"): {}}
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Cache:   cache.Options{DefaultNamespaces: namespaces},
		Client:  client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		log.Fatal(err)
	}
	work := &reconciler{
		cluster:  manager.GetClient(),
		provider: &http.Client{Timeout: 30 * time.Second},
		origin:   os.Getenv("PROVIDER_ORIGIN"),
		token:    os.Getenv("PROVIDER_TOKEN"),
	}
	options := controller.Options{MaxConcurrentReconciles: workers}
	err = ctrl.NewControllerManagedBy(manager).For(empty()).WithOptions(options).Complete(work)
	if err != nil {
		log.Fatal(err)
	}
	if err := manager.Start(ctrl.SetupSignalHandler()); err != nil {
		log.Fatal(err)
	}
}
