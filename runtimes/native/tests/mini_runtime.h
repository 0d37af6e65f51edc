// A small stand-in for the TFLite runtime, for the native tests and the fuzzer.
//
// It follows the real one where a delegate can tell the difference: what is allocated and when, which functions may be
// called from where, how a graph is partitioned, who frees what. Every object that a delegate sees is a block of
// exactly its size, and blocks move whenever a real runtime might move them, so that a sanitizer sees what would only
// sometimes go wrong there.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "mini_model.h"
#include "tflite/abi.h"

namespace mini {

struct Freer {
  void operator()(void* block) const { std::free(block); }
};
using Block = std::unique_ptr<void, Freer>;

struct Limits {
  size_t tensor_bytes = size_t{64} << 20;
  size_t total_bytes = size_t{1} << 30;
  double reference_work = 1e12;  // multiply-adds of this runtime's own operators in one Invoke
};

// An array that the receiver frees with std::free, as TFLite's are.
TfLiteIntArray* NewIntArray(const std::vector<int>& values);

// One input tensor or output tensor of an interpreter, its bytes included.
struct Value {
  TfLiteType type = kTfLiteNoType;
  std::vector<int> dims;
  std::vector<uint8_t> bytes;
};

class Interpreter {
 public:
  // Throws Error or std::bad_alloc where a runtime would refuse the model. The file behind `model` may go afterwards.
  explicit Interpreter(const Model& model, int threads = -1, Limits limits = {});
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Each returns false after an error; messages() then says which. A failed Apply leaves the graph as it was.
  bool Apply(TfLiteDelegate* delegate);
  bool ResizeInput(size_t input, const std::vector<int>& dims);
  bool AllocateTensors();
  bool Invoke();

  // Gives every tensor new memory with the old content, without preparing, as a runtime may between two Invokes.
  void MoveTensors();

  size_t inputs() const { return inputs_.size(); }
  size_t outputs() const { return outputs_.size(); }
  TfLiteTensor& input(size_t index) { return tensors()[inputs_.at(index)]; }
  TfLiteTensor& output(size_t index) { return tensors()[outputs_.at(index)]; }
  Value Output(size_t index);
  size_t tensors_size() const { return context_->tensors_size; }
  TfLiteTensor& tensor(size_t index) { return tensors()[index]; }

  // Whether the constants hold what they held at first: a real runtime has them in read-only memory.
  bool ConstantsIntact() const { return HashConstants() == constants_; }

  // Steps of the execution plan: nodes of delegates, and others.
  size_t delegate_nodes() const;
  size_t other_nodes() const { return plan_.size() - delegate_nodes(); }

  const std::vector<std::string>& messages() const { return messages_; }
  std::string Messages() const;
  void Report(std::string message) { messages_.push_back(std::move(message)); }

  // Takes from the work that one Invoke may do.
  bool Work(double multiply_adds);

 private:
  struct Step {
    TfLiteNode* node;
    TfLiteRegistration* registration;
    bool from_model;
  };
  struct Subset {
    bool claimed = false;
    std::vector<int> nodes;
    std::vector<int> inputs;
    std::vector<int> outputs;
  };
  enum class State { kNew, kReady };

  static Interpreter& Of(TfLiteContext* context) { return *static_cast<Interpreter*>(context->impl_); }
  static TfLiteStatus GetExecutionPlan(TfLiteContext* context, TfLiteIntArray** plan);
  static TfLiteStatus GetNode(TfLiteContext* context, int index, TfLiteNode** node, TfLiteRegistration** registration);
  static TfLiteStatus Replace(TfLiteContext* context, TfLiteRegistration registration, const TfLiteIntArray* nodes,
                              TfLiteDelegate* delegate);
  static TfLiteStatus Preview(TfLiteContext* context, const TfLiteIntArray* nodes, TfLiteDelegateParams** partitions,
                              int* count);
  static TfLiteStatus ResizeTensor(TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims);
  static TfLiteStatus ResizeTensorExplicit(TfLiteContext* context, TfLiteTensor* tensor, int rank, const int* dims);
  static TfLiteStatus AddTensors(TfLiteContext* context, int count, int* first);
  static void ReportError(TfLiteContext* context, const char* format, ...);

  TfLiteTensor* tensors() const { return context_->tensors; }
  void SetUpContext(int threads);
  void Clear();
  void AddTensor(const ModelTensor& source, TfLiteTensor* tensor);
  void AddNode(const ModelOperator& source);
  void FreeNode(const Step& step);
  void FreeTensor(TfLiteTensor* tensor);
  void* Charge(size_t bytes);
  void Allocate(TfLiteTensor* tensor);
  bool Claimable(const TfLiteIntArray* nodes);
  std::vector<Subset> Partition(const std::vector<int>& claimed) const;
  bool AddDelegateNode(const TfLiteRegistration& registration, const Subset& subset, TfLiteDelegate* delegate);
  void MoveNodes();
  void FreePreview();
  size_t HashConstants() const;

  Limits limits_;
  size_t charged_ = 0;
  size_t constants_ = 0;
  double work_ = 0;
  std::unique_ptr<TfLiteContext, Freer> context_;
  std::vector<Step> steps_;
  std::vector<int> plan_;
  std::vector<int> inputs_;
  std::vector<int> outputs_;
  std::vector<std::string> messages_;
  State state_ = State::kNew;
  bool delegating_ = false;  // inside a delegate's Prepare
  Block plan_shown_;
  TfLiteDelegateParams* preview_ = nullptr;
  size_t preview_size_ = 0;
};

}  // namespace mini
