// Tells what is on a picture with the network of this export:
//   ./classify EXPORT picture.ppm [more.pgm ...]
// Pictures are binary PPM or PGM files (P6, P5), which any tool writes and which take no library to read.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

using Bytes = std::vector<std::uint8_t>;

struct Picture {
  int width = 0, height = 0, channels = 0;
  Bytes values;  // row by row, the channels of a pixel side by side
};

static std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The manifest is JSON as Python writes it: what is needed of it takes no parser. A key is looked for behind `from`.
static std::size_t value_of(const std::string& json, const std::string& key, std::size_t from = 0) {
  const auto at = json.find("\"" + key + "\": ", from);
  if (at == std::string::npos) throw std::runtime_error("manifest.json has no " + key);
  return at + key.size() + 4;
}

static void append_utf8(std::string& text, unsigned code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    text += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
}

static std::string json_string(const std::string& json, std::size_t& at) {
  std::string text;
  const auto hex = [&](std::size_t digits) {
    return static_cast<unsigned>(std::stoul(json.substr(digits, 4), nullptr, 16));
  };
  while (json.at(++at) != '"') {
    if (json[at] != '\\') {
      text += json[at];
      continue;
    }
    const char kind = json.at(++at);
    if (kind != 'u') {
      const std::string from = "bfnrt", to = "\b\f\n\r\t";
      const auto place = from.find(kind);
      text += place == std::string::npos ? kind : to[place];
      continue;
    }
    unsigned code = hex(at + 1);
    at += 4;
    if (code >= 0xD800 && code < 0xDC00) {  // the first half of a pair
      code = 0x10000 + ((code - 0xD800) << 10) + (hex(at + 3) - 0xDC00);
      at += 6;
    }
    append_utf8(text, code);
  }
  return text;
}

static std::vector<std::string> class_names(const std::string& json) {
  std::vector<std::string> names;
  for (auto at = value_of(json, "classes"); json.at(at) != ']'; ++at) {
    if (json[at] == '"') names.push_back(json_string(json, at));
  }
  return names;
}

static Picture read_picture(const std::string& path) {
  const std::string content = read_file(path);
  std::size_t at = 2;
  const auto number = [&] {
    for (; at < content.size() && !std::isdigit(static_cast<unsigned char>(content[at])); ++at) {
      if (content[at] == '#') at = std::min(content.find('\n', at), content.size() - 1);
    }
    int value = 0;
    for (; at < content.size() && std::isdigit(static_cast<unsigned char>(content[at])); ++at) {
      value = std::min(value, 99'999'999) * 10 + (content[at] - '0');  // larger ones are no picture's either
    }
    return value;
  };
  const std::string kind = content.substr(0, 2);
  if (kind != "P5" && kind != "P6") throw std::runtime_error(path + " is no binary PPM or PGM file");
  Picture picture;
  picture.width = number();
  picture.height = number();
  picture.channels = kind == "P6" ? 3 : 1;
  const bool bytes = number() == 255;
  const auto size = static_cast<std::size_t>(picture.width) * picture.height * picture.channels;
  if (!bytes || size == 0 || content.size() < at + 1 + size) {
    throw std::runtime_error(path + " is cut off or has no 8 bits");
  }
  picture.values.assign(content.begin() + at + 1, content.begin() + at + 1 + size);
  return picture;
}

static Picture with_channels(const Picture& picture, int channels) {
  if (picture.channels == channels) return picture;
  if (channels != 1 && channels != 3) throw std::runtime_error("this network takes channels that no picture file has");
  Picture made{picture.width, picture.height, channels, {}};
  for (std::size_t at = 0; at < picture.values.size(); at += picture.channels) {
    const auto* pixel = &picture.values[at];
    if (channels == 1) {
      const int grey = (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
      made.values.push_back(static_cast<std::uint8_t>(grey));
    } else {
      made.values.insert(made.values.end(), 3, pixel[0]);
    }
  }
  return made;
}

// Resizes an axis of `from` steps, `step` bytes each, to `to` steps with the filter that prepared the data set's
// images: bilinear, which averages where a picture becomes smaller. There are `rows` such series one after the other.
static Bytes resize_axis(const Bytes& source, int from, int to, std::size_t step, std::size_t rows) {
  if (from == to) return source;
  Bytes target(rows * to * step);
  const double scale = static_cast<double>(from) / to, reach = std::max(scale, 1.0);
  for (int position = 0; position < to; ++position) {
    const double centre = (position + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - reach + 0.5));
    const int last = std::min(from, static_cast<int>(centre + reach + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (int at = first; at < last; ++at) {
      weights.push_back(std::max(0.0, 1 - std::abs(at - centre + 0.5) / reach));
      total += weights.back();
    }
    for (auto& weight : weights) weight = std::round(weight / total * (1 << 22));
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t byte = 0; byte < step; ++byte) {
        double sum = 1 << 21;
        for (std::size_t tap = 0; tap < weights.size(); ++tap) {
          sum += weights[tap] * source[(row * from + first + tap) * step + byte];
        }
        const double value = std::min(255.0, std::floor(sum / (1 << 22)));
        target[(row * to + position) * step + byte] = static_cast<std::uint8_t>(value);
      }
    }
  }
  return target;
}

static int run(int count, char** words) {
  if (count < 3) throw std::runtime_error("give the export and at least one picture: classify EXPORT picture.ppm");
  const std::string folder = words[1], manifest = read_file(folder + "/manifest.json");
  const auto classes = class_names(manifest);
  const auto pixels = value_of(manifest, "pixels");
  if (manifest.find("\"file\": ", pixels) > manifest.find('}', pixels)) {
    throw std::runtime_error("this network takes no pictures as they are: manifest.json says why");
  }
  const double white = std::stod(manifest.substr(value_of(manifest, "white", pixels)));
  // The usual way of a data set; others are left to an image library.
  const auto says = [&](const std::string& key, const std::string& value) {
    return manifest.compare(value_of(manifest, key, pixels), value.size() + 2, "\"" + value + "\"") == 0;
  };
  const bool stretches = says("resize", "stretch") && says("interpolation", "bilinear");
  const int exits = std::stoi(manifest.substr(value_of(manifest, "exits")));

  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "classify");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(std::stoi(manifest.substr(value_of(manifest, "threads"))));
  // For int8 networks: exact products also on x86-64 processors whose fast ones overflow.
  options.AddConfigEntry("session.x64quantprecision", "1");
  const auto model = std::filesystem::path(folder) / "model_uint8.onnx";
  Ort::Session session(env, model.c_str(), options);
  const auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();  // 1, H, W, C
  const int height = static_cast<int>(shape[1]), width = static_cast<int>(shape[2]);
  const int channels = static_cast<int>(shape[3]);
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<const char*, 1> inputs{"image"};
  const std::array<const char*, 3> outputs{"label", "exit", "confidence"};

  for (int number = 2; number < count; ++number) {
    const Picture picture = with_channels(read_picture(words[number]), channels);
    if (!stretches && (picture.width != width || picture.height != height)) {
      throw std::runtime_error(std::string(words[number]) + " has to be resized before, as manifest.json says");
    }
    const auto row = static_cast<std::size_t>(width) * channels;
    Bytes values = resize_axis(picture.values, picture.width, width, channels, picture.height);
    values = resize_axis(values, picture.height, height, row, 1);
    for (auto& value : values) value = static_cast<std::uint8_t>(std::lround(value * white / 255));

    auto image =
        Ort::Value::CreateTensor<std::uint8_t>(memory, values.data(), values.size(), shape.data(), shape.size());
    const auto said = session.Run(Ort::RunOptions{nullptr}, inputs.data(), &image, 1, outputs.data(), outputs.size());
    const auto label = *said[0].GetTensorData<std::int64_t>(), left = *said[1].GetTensorData<std::int64_t>();
    const float confidence = *said[2].GetTensorData<float>();
    std::printf("%s: %s, confidence %.4f, left at exit %lld of 0 to %d\n", words[number], classes.at(label).c_str(),
                confidence, static_cast<long long>(left), exits - 1);
  }
  return 0;
}

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (const std::exception& error) {  // Ort::Exception is one
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
