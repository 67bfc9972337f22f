// Loads a compressed file and classifies one image, given as raw float32 in the model's layout.
//
//     c++ -std=c++17 main.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -o classify
//     ./classify small.onnx image.f32
//
// $ORT is an unpacked release of ONNX Runtime (1.19 or newer); build_main.sh does it with packages of Debian and
// pip alone. The file is one of profile fast, whose
// weights are unpacked once, while the session is made: nothing else is to be set.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "classify MODEL IMAGE\n";
    return 2;
  }
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "classify");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(env, argv[1], options);

    Ort::AllocatorWithDefaultOptions allocator;
    const std::string input = session.GetInputNameAllocated(0, allocator).get();
    const std::string output = session.GetOutputNameAllocated(0, allocator).get();
    auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    shape[0] = 1;
    size_t count = 1;
    for (auto size : shape) count *= static_cast<size_t>(size);

    std::ifstream file(argv[2], std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    if (bytes.size() != count * sizeof(float)) {
      std::cerr << argv[2] << ": " << bytes.size() << " bytes, the model takes "
                << count * sizeof(float) << "\n";
      return 1;
    }
    std::vector<float> image(count);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(image.data()));

    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto tensor = Ort::Value::CreateTensor<float>(memory, image.data(), count, shape.data(), shape.size());
    const char* inputs[] = {input.c_str()};
    const char* outputs[] = {output.c_str()};
    auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, 1);
    const float* scores = found[0].GetTensorData<float>();
    const auto classes = found[0].GetTensorTypeAndShapeInfo().GetElementCount();
    std::cout << std::max_element(scores, scores + classes) - scores << "\n";
  } catch (const Ort::Exception& error) {
    std::cerr << argv[1] << ": " << error.what() << "\n";
    return 1;
  }
}
