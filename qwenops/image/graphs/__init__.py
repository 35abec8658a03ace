"""The graphs that stable-diffusion.cpp computes for Qwen-Image, tensor by tensor, so that buffers can be foretold.

Read in the source that stable-diffusion-cpp-python 0.4.7 carries: src/ggml_extend.hpp, qwen_image.hpp, llm.hpp and
wan.hpp.
"""
