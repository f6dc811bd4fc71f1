/* Runs an export with TensorFlow's C API, the loader that TensorFlow Serving uses.

   detect EXPORT/1 bytes INPUT BOXES SCORES CLASSES COUNT FILE...
   detect EXPORT/1 pixels INPUT BOXES SCORES CLASSES COUNT FILE.ppm

   INPUT and the outputs are tensor names as `saved_model_cli show` prints them. Prints a line for
   every detection: number of the image, class, score, ymin, xmin, ymax, xmax. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static void fail(const char* what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void check(TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) fail(TF_Message(status));
}

static char* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (!file) fail(path);
  fseek(file, 0, SEEK_END);
  *size = ftell(file);
  rewind(file);
  char* data = malloc(*size + 1);
  data[*size] = 0;
  if (fread(data, 1, *size, file) != *size) fail(path);
  fclose(file);
  return data;
}

static TF_Tensor* encoded_images(char** paths, int count) {
  int64_t shape[] = {count};
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, shape, 1, count * sizeof(TF_TString));
  TF_TString* strings = TF_TensorData(tensor);
  for (int i = 0; i < count; ++i) {
    size_t size;
    char* data = read_file(paths[i], &size);
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], data, size);
    free(data);
  }
  return tensor;
}

static TF_Tensor* pixels(const char* path) {
  size_t size;
  char* data = read_file(path, &size);
  int width, height, header;
  if (sscanf(data, "P6 %d %d 255%n", &width, &height, &header) != 2) fail("not a binary PPM");
  int64_t shape[] = {1, height, width, 3};
  size_t bytes = (size_t)height * width * 3;
  TF_Tensor* tensor = TF_AllocateTensor(TF_UINT8, shape, 4, bytes);
  memcpy(TF_TensorData(tensor), data + header + 1, bytes);
  free(data);
  return tensor;
}

static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[256];
  int index = 0;
  sscanf(name, "%255[^:]:%d", operation, &index);
  TF_Output output = {TF_GraphOperationByName(graph, operation), index};
  if (!output.oper) fail(name);
  return output;
}

int main(int argc, char** argv) {
  if (argc < 9) fail("see the comment at the top of detect.c");
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);

  TF_Output input = find(graph, argv[3]);
  TF_Output outputs[4];
  for (int i = 0; i < 4; ++i) outputs[i] = find(graph, argv[4 + i]);
  TF_Tensor* images =
      strcmp(argv[2], "bytes") ? pixels(argv[8]) : encoded_images(argv + 8, argc - 8);
  TF_Tensor* found[4];
  TF_SessionRun(session, NULL, &input, &images, 1, outputs, found, 4, NULL, 0, NULL, status);
  check(status);

  const float* boxes = TF_TensorData(found[0]);
  const float* scores = TF_TensorData(found[1]);
  const int* classes = TF_TensorData(found[2]);
  const int* count = TF_TensorData(found[3]);
  int64_t rows = TF_Dim(found[1], 1);
  for (int64_t image = 0; image < TF_Dim(found[1], 0); ++image) {
    for (int64_t i = image * rows; i < image * rows + count[image]; ++i) {
      const float* box = boxes + 4 * i;
      printf("%d %d %.7g %.7g %.7g %.7g %.7g\n", (int)image, classes[i], scores[i], box[0], box[1],
             box[2], box[3]);
    }
  }
  return 0;
}
